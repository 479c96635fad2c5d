//! The sections of the report.

mod http;
mod latency;
mod recorder;
mod scale;
mod scripts;
mod search;
mod storm;

use std::{future::Future, pin::Pin};

use crate::{Bench, table::Table};

type Section = for<'a> fn(&'a Bench) -> Pin<Box<dyn Future<Output = Table> + 'a>>;

pub const ALL: &[(&str, Section)] = &[
    ("http", |bench| Box::pin(http::contenders(bench))),
    ("work", |bench| Box::pin(http::kinds_of_work(bench))),
    ("scripts", |bench| Box::pin(scripts::measure(bench))),
    ("recorder", |bench| Box::pin(recorder::measure(bench))),
    ("latency", |bench| Box::pin(latency::measure(bench))),
    ("storm", |bench| Box::pin(storm::measure(bench))),
    ("replay", |bench| Box::pin(storm::replay(bench))),
    ("scale", |bench| Box::pin(scale::workers(bench))),
    ("memory", |bench| Box::pin(scale::memory(bench))),
    ("handlers", |bench| Box::pin(scale::handlers(bench))),
    ("search", |bench| Box::pin(search::measure(bench))),
];
