//! How many bytes to ask for: as much as keeps coming, so that an idle fetch holds little of the memory budget.

/// Least bytes asked for.
const LEAST: u32 = 64 * 1024;
/// Asked for first.
const FIRST: u32 = 1024 * 1024;
/// Partitions that should find room in one response where the sizes allow it; not so many that their sections would be
/// copied out of the frame.
const SHARES: u32 = 6;

/// The size of the next response of a shuttle. A batch above it comes alone and whole, whatever its size (KIP-74).
#[derive(Debug)]
pub(super) struct Appetite {
    bytes: u32,
    most: u32,
    share: u32,
}

impl Appetite {
    /// Up to `most` bytes in all; partitions that come together get at least `share` each.
    pub(super) fn new(most: u32, share: u32) -> Self {
        Self { bytes: FIRST.min(most), most, share }
    }

    /// Bytes to ask for in all.
    pub(super) fn bytes(&self) -> u32 {
        self.bytes
    }

    /// Bytes to ask for per partition when so many are asked for.
    pub(super) fn share_of(&self, partitions: usize) -> u32 {
        let shares = u32::try_from(partitions).unwrap_or(SHARES).clamp(1, SHARES);
        (self.bytes / shares).max(self.share.min(self.bytes))
    }

    /// Learns from what came: a well-filled response asks for more, a nearly empty one for less.
    pub(super) fn came(&mut self, bytes: u64) {
        if bytes >= u64::from(self.bytes / 2) {
            self.bytes = self.bytes.saturating_mul(4).min(self.most);
        } else if bytes < u64::from(self.bytes / 16) {
            self.bytes = (self.bytes / 2).max(LEAST.min(self.most));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn it_grows_to_the_limit_while_bytes_come_and_shrinks_when_they_do_not() {
        let mut appetite = Appetite::new(4 << 20, 1 << 20);
        appetite.came(1 << 20);
        assert_eq!(appetite.bytes(), 4 << 20);
        appetite.came(64 << 20);
        assert_eq!(appetite.bytes(), 4 << 20);
        (0..20).for_each(|_| appetite.came(0));
        assert_eq!(appetite.bytes(), LEAST);
    }

    #[test]
    fn a_lone_partition_gets_all_and_many_get_their_share() {
        let appetite = Appetite::new(4 << 20, 512 << 10);
        assert_eq!(appetite.share_of(1), 1 << 20);
        assert_eq!(appetite.share_of(2), 512 << 10);
        assert_eq!(appetite.share_of(1000), 512 << 10);
        assert!(Appetite::new(16 << 10, 1 << 20).share_of(9) <= 16 << 10);
    }
}
