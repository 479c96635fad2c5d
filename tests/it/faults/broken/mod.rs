//! Faults that break the services themselves: on a pair of their own, one at a time (`.config/nextest.toml`).

mod broker;
mod cluster;
mod limits;
mod policies;
mod postgres;
