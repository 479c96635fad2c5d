//! The REST API, and who may use it.

mod access;
mod away;
mod bodies;
mod bounds;
mod document;
mod handlers;
mod letters;
mod sign_in;
mod viewers;
