//! What is measured: how many events, and how many handlers each has.

/// What a contender has to do.
#[derive(Clone)]
pub struct Work {
    pub events: &'static [&'static str],
    pub count: u64,
    pub bytes: usize,
    pub handlers: u32,
    /// The path of the target that is called.
    pub path: &'static str,
    /// The script that runs instead of a call of the target.
    pub script: Option<&'static str>,
    /// The prefetch of each queue of each process.
    pub concurrency: u16,
    pub workers: usize,
    /// More configuration of provisiond.
    pub settings: &'static [(&'static str, &'static str)],
}

pub const SCRIPTS_AT_A_TIME: usize = 4;

pub const ONE: &[&str] = &["clients.create"];

impl Work {
    pub const HTTP: Self = Self {
        events: ONE,
        count: 50_000,
        bytes: 300,
        handlers: 1,
        path: "/ok",
        script: None,
        concurrency: 256,
        workers: 1,
        settings: &[],
    };

    pub fn attempts(&self) -> u64 {
        self.count * u64::from(self.handlers)
    }
}
