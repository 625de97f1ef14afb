//! librdkafka
