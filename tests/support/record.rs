//! A record as an application sees it, and the identity a test writes into its value.

use std::sync::OnceLock;
use std::time::{SystemTime, UNIX_EPOCH};

/// Headers in order: names are bytes (Kafka does not check them), null values differ from empty ones.
pub type Headers = Vec<(Vec<u8>, Option<Vec<u8>>)>;

/// Milliseconds; the same for the whole life of the process, so that a record made twice is equal.
///
/// Recent, because brokers forget producers (and with retention, records) by record time.
fn an_hour_ago() -> i64 {
    static THEN: OnceLock<i64> = OnceLock::new();
    *THEN.get_or_init(|| {
        let now = SystemTime::now().duration_since(UNIX_EPOCH).expect("the clock is past 1970");
        now.as_millis() as i64 - 3_600_000
    })
}

/// One record.
#[derive(Debug, Clone, Default, PartialEq, Eq, Hash)]
pub struct Record {
    /// Milliseconds; −1 means none.
    pub timestamp: i64,
    /// Null differs from empty.
    pub key: Option<Vec<u8>>,
    /// Null differs from empty.
    pub value: Option<Vec<u8>>,
    /// As written.
    pub headers: Headers,
}

impl Record {
    /// An order whose value begins with its id and is `size` bytes long (or as long as the beginning needs), from the
    /// last hour.
    pub fn order(id: u64, size: usize) -> Record {
        let mut value = format!(r#"{{"id":{id},"customer":{},"state":"paid","note":""#, id % 997).into_bytes();
        // Words that repeat compress as JSON does; the id among them keeps two records from being equal by chance.
        let words = format!("order {id} from shelf {} to dock {}; ", id % 31, id % 7).into_bytes();
        let room = size.saturating_sub(value.len() + 2);
        value.extend(words.iter().cycle().take(room));
        value.extend(br#""}"#);
        Record {
            timestamp: an_hour_ago() + id as i64 % 3_600_000,
            key: Some(format!("customer-{}", id % 997).into_bytes()),
            value: Some(value),
            headers: vec![(b"trace".to_vec(), Some(id.to_be_bytes().to_vec())), (b"kind".to_vec(), None)],
        }
    }

    /// The id in its value, if it is an order.
    pub fn id(&self) -> Option<u64> {
        let digits = self.value.as_deref()?.strip_prefix(br#"{"id":"#)?;
        let end = digits.iter().position(|b| !b.is_ascii_digit())?;
        std::str::from_utf8(&digits[..end]).ok()?.parse().ok()
    }
}

/// A record and where it is stored.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Stored {
    /// Its offset.
    pub offset: i64,
    /// Whether the timestamp is the broker's (LogAppendTime).
    pub append_time: bool,
    /// The record.
    pub record: Record,
}
