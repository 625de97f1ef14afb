//! twinlog
fn main() {}
