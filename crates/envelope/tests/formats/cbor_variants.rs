//! Every other way to write one CBOR value: long forms, indefinite lengths, order, repetition, additions. The corpus
//! is derived from the genuine bytes, so that no field of a format is left out.

/// A decoded item, as much of CBOR as the formats use.
enum Item {
    Unsigned(u64),
    Bytes(Vec<u8>),
    Text(Vec<u8>),
    Array(Vec<Item>),
    Map(Vec<(Item, Item)>),
}

fn head(major: u8, n: u64) -> Vec<u8> {
    match n {
        0..=23 => vec![major << 5 | n as u8],
        24..=0xff => vec![major << 5 | 24, n as u8],
        0x100..=0xffff => [vec![major << 5 | 25], (n as u16).to_be_bytes().to_vec()].concat(),
        _ => [vec![major << 5 | 27], n.to_be_bytes().to_vec()].concat(),
    }
}

/// The same head in every longer form.
fn long_heads(major: u8, n: u64) -> Vec<Vec<u8>> {
    let shortest = head(major, n).len();
    let forms = [
        [vec![major << 5 | 24], vec![n as u8]].concat(),
        [vec![major << 5 | 25], (n as u16).to_be_bytes().to_vec()].concat(),
        [vec![major << 5 | 26], (n as u32).to_be_bytes().to_vec()].concat(),
        [vec![major << 5 | 27], n.to_be_bytes().to_vec()].concat(),
    ];
    forms.into_iter().filter(|form| form.len() > shortest).collect()
}

fn parse(input: &mut &[u8]) -> Item {
    let first = take(input, 1)[0];
    let n = match first & 31 {
        n @ 0..=23 => u64::from(n),
        24 => u64::from(take(input, 1)[0]),
        25 => u64::from(u16::from_be_bytes(take(input, 2).try_into().unwrap())),
        other => panic!("the genuine formats have no such head: {other}"),
    };
    match first >> 5 {
        0 => Item::Unsigned(n),
        2 => Item::Bytes(take(input, n as usize).to_vec()),
        3 => Item::Text(take(input, n as usize).to_vec()),
        4 => Item::Array((0..n).map(|_| parse(input)).collect()),
        5 => Item::Map((0..n).map(|_| (parse(input), parse(input))).collect()),
        other => panic!("the genuine formats have no major type {other}"),
    }
}

fn take<'a>(input: &mut &'a [u8], n: usize) -> &'a [u8] {
    let (taken, rest) = input.split_at(n);
    *input = rest;
    taken
}

fn write(item: &Item) -> Vec<u8> {
    match item {
        Item::Unsigned(n) => head(0, *n),
        Item::Bytes(bytes) => [head(2, bytes.len() as u64), bytes.clone()].concat(),
        Item::Text(bytes) => [head(3, bytes.len() as u64), bytes.clone()].concat(),
        Item::Array(_) => container(head(4, parts(item).len() as u64), &parts(item)),
        Item::Map(pairs) => container(head(5, pairs.len() as u64), &parts(item)),
    }
}

fn container(head: Vec<u8>, parts: &[Vec<u8>]) -> Vec<u8> {
    [head, parts.concat()].concat()
}

/// The encoded children; keys and values of a map in turn.
fn parts(item: &Item) -> Vec<Vec<u8>> {
    children(item).into_iter().map(write).collect()
}

fn children(item: &Item) -> Vec<&Item> {
    match item {
        Item::Array(items) => items.iter().collect(),
        Item::Map(pairs) => pairs.iter().flat_map(|(key, value)| [key, value]).collect(),
        _ => vec![],
    }
}

fn major_and_count(item: &Item) -> (u8, u64) {
    match item {
        Item::Unsigned(n) => (0, *n),
        Item::Bytes(bytes) => (2, bytes.len() as u64),
        Item::Text(bytes) => (3, bytes.len() as u64),
        Item::Array(items) => (4, items.len() as u64),
        Item::Map(pairs) => (5, pairs.len() as u64),
    }
}

/// All non-canonical encodings of one node, its children canonical.
fn own_variants(item: &Item) -> Vec<Vec<u8>> {
    let (major, count) = major_and_count(item);
    let canonical = write(item);
    let body = &canonical[head(major, count).len()..];
    let mut variants: Vec<_> =
        long_heads(major, count).into_iter().map(|head| [head, body.to_vec()].concat()).collect();
    match item {
        Item::Unsigned(_) => {}
        Item::Bytes(_) | Item::Text(_) => variants.push([&[major << 5 | 31], &canonical[..], &[0xff]].concat()),
        Item::Array(_) => variants.push([&[0x9f], body, &[0xff]].concat()),
        Item::Map(_) => {
            variants.push([&[0xbf], body, &[0xff]].concat());
            variants.extend(map_variants(&parts(item)));
        }
    }
    variants
}

fn map_variants(parts: &[Vec<u8>]) -> Vec<Vec<u8>> {
    let pairs: Vec<Vec<u8>> = parts.chunks(2).map(|pair| pair.concat()).collect();
    let map = |pairs: &[Vec<u8>]| container(head(5, pairs.len() as u64), pairs);
    let mut variants = vec![];
    for i in 0..pairs.len() {
        let mut repeated = pairs.clone();
        repeated.insert(i, pairs[i].clone());
        variants.push(map(&repeated));
        let mut missing = pairs.clone();
        missing.remove(i);
        variants.push(map(&missing));
        if i > 0 {
            let mut swapped = pairs.clone();
            swapped.swap(i - 1, i);
            variants.push(map(&swapped));
        }
    }
    for unknown in [vec![0x00, 0x00], vec![0x18, 0x63, 0x00], vec![0x18, 0x63, 0xf6], vec![0x20, 0x00]] {
        variants.push(map(&[&pairs[..], std::slice::from_ref(&unknown)].concat()));
        variants.push(map(&[&[unknown], &pairs[..]].concat()));
    }
    variants
}

fn variants(item: &Item) -> Vec<Vec<u8>> {
    let mut all = own_variants(item);
    let (major, _) = major_and_count(item);
    let count = match item {
        Item::Map(pairs) => pairs.len(),
        _ => children(item).len(),
    };
    for (i, child) in children(item).into_iter().enumerate() {
        for variant in variants(child) {
            let mut parts = parts(item);
            parts[i] = variant;
            all.push(container(head(major, count as u64), &parts));
        }
    }
    all
}

/// Every refused way to write `genuine`, trailing bytes and truncations included.
pub fn non_canonical(genuine: &[u8]) -> Vec<Vec<u8>> {
    let mut rest = genuine;
    let item = parse(&mut rest);
    assert!(rest.is_empty() && write(&item) == genuine, "the genuine bytes are canonical");
    let mut all = variants(&item);
    all.extend((0..genuine.len()).map(|end| genuine[..end].to_vec()));
    all.extend([vec![0x00], vec![0xf6], vec![0xff], genuine.to_vec()].map(|tail| [genuine, &tail].concat()));
    all.push([&[0xd9, 0xd9, 0xf7], genuine].concat());
    assert!(all.iter().all(|variant| variant != genuine));
    all
}
