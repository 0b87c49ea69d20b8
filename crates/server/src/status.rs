//! What the server shows of its records. Statuses are derived from what it has checked itself; no request carries one
//! (DESIGN.md 4, DECISIONS.md D31).

use halfkey_api::{bytes::Hex, message};

use crate::store;

/// A device as its client sees it.
pub(crate) fn device(device: store::Device) -> message::Device {
    message::Device {
        id: device.id,
        public_key: Hex(device.public_key),
        platform: device.platform,
        name: device.name,
        created_at: device.created_ms,
        last_seen_at: Some(device.seen_ms),
        revoked_at: device.revoked_ms,
    }
}
