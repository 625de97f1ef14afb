//! What goes wrong with one request, as a test wishes.

use std::time::Duration;

use kafka_protocol::messages::ApiKey;

/// Decides what goes wrong with a request of this kind.
pub(super) type Whim = Box<dyn FnMut(ApiKey) -> Mishap + Send>;

/// What goes wrong with one request.
pub enum Mishap {
    /// Nothing.
    None,
    /// The connection ends before the broker has looked at it.
    LoseRequest,
    /// It is treated, then the connection ends: the client cannot know.
    LoseAnswer,
    /// It is treated, half of the answer leaves, then the connection ends.
    HalveAnswer,
    /// It is treated so much later, even if the client has given up by then. What follows on the connection waits.
    TreatLate(Duration),
    /// It is treated, and answered so much later. What follows on the connection waits.
    AnswerLate(Duration),
    /// It is treated, but nothing is ever said on the connection again, which stays open.
    FallSilent,
    /// Each partition or topic it names is refused with this code; nothing is treated.
    Refuse(i16),
    /// A quota is exceeded: the answer says so (a fetch brings nothing), and what follows on the connection waits so long
    /// (KIP-219).
    Throttle(Duration),
    /// The answer's frame, length included, is replaced.
    Forge(Box<dyn FnOnce(Vec<u8>) -> Vec<u8> + Send>),
}
