//! The REST API, and who may use it.

mod access;
mod away;
mod bodies;
mod bounds;
mod dead_letters;
mod document;
mod handlers;
mod sign_in;
mod viewers;
