-- Sessions opened ahead sit beyond all others; counting those that are going on does not read them.
CREATE INDEX kept_by_seat ON kept (seat);
