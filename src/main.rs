//! provisiond: runs HTTP and script handlers for the events of a billing platform.

mod domain;

fn main() {}
