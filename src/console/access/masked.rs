//! Hides from viewers what may contain a secret: the path and query of a url
//! (`https://api.telegram.org/bot<token>/sendMessage`) and the arguments of a script. Header values are hidden from
//! everyone.

use serde_json::Value;

use super::Identity;
use crate::{
    dead_letters::Shown,
    domain::{
        execution::{Execution, HandlerRef},
        handler::Handler,
        task::{HttpTarget, MASK},
    },
    store::{ExecutionRow, HistoryEntry, Page},
};

/// A value that may contain something viewers must not see.
pub trait Masked {
    fn mask(&mut self);
}

impl Identity {
    /// `value`, masked unless this identity may make changes.
    pub fn view_of<T: Masked>(&self, mut value: T) -> T {
        if !self.may_change() {
            value.mask();
        }
        value
    }
}

impl Masked for Handler {
    fn mask(&mut self) {
        self.spec.task.mask();
    }
}

impl Masked for HistoryEntry {
    fn mask(&mut self) {
        for spec in [&mut self.before, &mut self.after].into_iter().flatten() {
            if let Some(Value::String(url)) = spec.pointer_mut("/task/url") {
                *url = HttpTarget::masked(url);
            }
            if let Some(Value::Array(args)) = spec.pointer_mut("/task/args") {
                args.fill(MASK.into());
            }
        }
    }
}

impl Masked for HandlerRef {
    fn mask(&mut self) {
        if let Some(task) = &mut self.task {
            task.mask();
        }
    }
}

impl Masked for Execution {
    fn mask(&mut self) {
        self.handler.mask();
    }
}

impl Masked for ExecutionRow {
    fn mask(&mut self) {
        self.handler.mask();
    }
}

impl Masked for Shown {
    fn mask(&mut self) {
        self.attempts.mask();
    }
}

impl<T: Masked> Masked for Option<T> {
    fn mask(&mut self) {
        self.iter_mut().for_each(Masked::mask);
    }
}

impl<T: Masked> Masked for Vec<T> {
    fn mask(&mut self) {
        self.iter_mut().for_each(Masked::mask);
    }
}

impl<T: Masked> Masked for Page<T> {
    fn mask(&mut self) {
        self.items.mask();
    }
}
