//! The plan: the handlers of a delivery that are still to run, in order.

use std::{collections::VecDeque, fmt, str::FromStr, time::Duration};

use jiff::Timestamp;

use super::handler::{HandlerId, Timeout};

/// After this time a delivery starts no further handler and hands over the rest of its plan. This is well before the
/// broker's consumer timeout (30 minutes).
pub const LONGEST_RUN: Duration = Duration::from_mins(15);
/// Maximum time until a delivery is acknowledged: a handler may start just before [`LONGEST_RUN`] ends.
pub const LONGEST_HELD: Duration =
    LONGEST_RUN.saturating_add(Timeout::MAX).saturating_add(Duration::from_mins(2));

/// The number of one attempt of one handler for one event; the first is 1.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Attempt(u32);

impl Attempt {
    pub const FIRST: Self = Self(1);

    pub const fn number(self) -> u32 {
        self.0
    }

    #[must_use]
    pub const fn next(self) -> Self {
        Self(self.0.saturating_add(1))
    }
}

impl TryFrom<u32> for Attempt {
    type Error = InvalidPlan;

    fn try_from(number: u32) -> Result<Self, Self::Error> {
        if number >= 1 { Ok(Self(number)) } else { Err(InvalidPlan) }
    }
}

/// The handlers still to run. `first_attempt` is the attempt number of the first handler; the others start at 1.
///
/// The text form, in the header of a copy, is the ids joined by commas.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Plan {
    handlers: VecDeque<Planned>,
    first_attempt: Attempt,
}

/// A handler of a plan.
///
/// After a database was restored from a backup, a new handler can get the id of a handler that the backup does not
/// have. The creation time tells the two apart.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Planned {
    pub id: HandlerId,
    pub created: Created,
}

/// When a handler was created, in microseconds since 1970; 0 if that is unknown.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Created(pub i64);

impl Created {
    pub fn at(created_at: Timestamp) -> Self {
        Self(created_at.as_microsecond())
    }

    /// Whether both may be the creation time of the same handler: they are equal, or one is unknown.
    pub fn may_be(self, other: Self) -> bool {
        self == other || self.0 == 0 || other.0 == 0
    }
}

/// The next handler to run, and the number of its attempt.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Step {
    pub handler: HandlerId,
    pub created: Created,
    pub attempt: Attempt,
}

impl Step {
    const fn planned(self) -> Planned {
        Planned { id: self.handler, created: self.created }
    }
}

/// The headers do not contain a plan.
#[derive(Debug, thiserror::Error)]
#[error("a plan must be handler ids joined by commas, with an attempt number of 1 or more")]
pub struct InvalidPlan;

impl Plan {
    pub fn new(handlers: impl IntoIterator<Item = Planned>) -> Self {
        Self { handlers: handlers.into_iter().collect(), first_attempt: Attempt::FIRST }
    }

    /// A plan of `ids`. `created` has their creation times in the same order; missing ones are unknown.
    pub fn of(ids: &[HandlerId], created: &[i64]) -> Self {
        let created = created.iter().copied().map(Created).chain(std::iter::repeat(Created::default()));
        Self::new(ids.iter().zip(created).map(|(id, created)| Planned { id: *id, created }))
    }

    /// A plan whose first handler is at `first_attempt`.
    pub fn beginning_at(handlers: impl IntoIterator<Item = Planned>, first_attempt: Attempt) -> Self {
        Self { first_attempt, ..Self::new(handlers) }
    }

    pub fn is_empty(&self) -> bool {
        self.handlers.is_empty()
    }

    pub const fn first_attempt(&self) -> Attempt {
        self.first_attempt
    }

    pub fn handlers(&self) -> impl Iterator<Item = HandlerId> + '_ {
        self.planned().map(|planned| planned.id)
    }

    pub fn planned(&self) -> impl Iterator<Item = Planned> + '_ {
        self.handlers.iter().copied()
    }

    /// The creation times of the handlers, in the order of the plan.
    pub fn created(&self) -> impl Iterator<Item = i64> + '_ {
        self.planned().map(|planned| planned.created.0)
    }

    /// Removes the first step from the plan and returns it.
    pub fn take_next(&mut self) -> Option<Step> {
        let Planned { id, created } = self.handlers.pop_front()?;
        let attempt = std::mem::replace(&mut self.first_attempt, Attempt::FIRST);
        Some(Step { handler: id, created, attempt })
    }

    /// A plan with `step` alone.
    pub fn only(step: Step) -> Self {
        Self { handlers: VecDeque::from([step.planned()]), first_attempt: step.attempt }
    }

    /// A plan with `step`, followed by the rest of this plan.
    pub fn with_first(&self, step: Step) -> Self {
        let mut handlers = self.handlers.clone();
        handlers.push_front(step.planned());
        Self { handlers, first_attempt: step.attempt }
    }

    /// Parses the plan in the headers of a copy.
    ///
    /// # Errors
    /// [`InvalidPlan`] if the headers do not contain one.
    pub fn from_headers(handlers: &str, attempt: u32) -> Result<Self, InvalidPlan> {
        let plan: Self = handlers.parse()?;
        Ok(Self { first_attempt: Attempt::try_from(attempt)?, ..plan })
    }

    /// The same plan with creation times from `text`: numbers joined by commas, as [`Plan::created_text`] writes
    /// them.
    #[must_use]
    pub fn with_created(mut self, text: &str) -> Self {
        for (planned, created) in self.handlers.iter_mut().zip(text.split(',')) {
            planned.created = Created(created.parse().unwrap_or_default());
        }
        self
    }

    pub fn created_text(&self) -> String {
        let created: Vec<String> = self.created().map(|created| created.to_string()).collect();
        created.join(",")
    }
}

impl FromStr for Plan {
    type Err = InvalidPlan;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let ids: Result<Vec<HandlerId>, _> = text.split(',').map(str::parse).collect();
        Ok(Self::of(&ids.map_err(|_| InvalidPlan)?, &[]))
    }
}

impl fmt::Display for Plan {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (n, id) in self.handlers().enumerate() {
            write!(f, "{}{id}", if n == 0 { "" } else { "," })?;
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_attempt_belongs_to_the_first_handler_only() {
        let mut plan = Plan::from_headers("7,3", 4).expect("a plan");
        let first = plan.take_next().expect("one");
        assert_eq!((first.handler, first.attempt.number()), (HandlerId(7), 4));
        assert_eq!(plan.with_first(first).to_string(), "7,3");
        assert_eq!(plan.with_first(first).first_attempt().number(), 4);
        assert_eq!(plan.take_next().expect("two").attempt, Attempt::FIRST);
        assert_eq!(plan.take_next(), None);
    }

    #[test]
    fn a_handler_keeps_its_identity() {
        let mut plan = Plan::from_headers("7,3,5", 2).expect("a plan").with_created("11,x");
        assert_eq!(plan.created_text(), "11,0,0");
        let first = plan.take_next().expect("one");
        assert_eq!(Plan::only(first).created_text(), "11");
        assert_eq!(plan.with_first(first).created_text(), "11,0,0");
        assert!(first.created.may_be(Created(11)) && first.created.may_be(Created(0)));
        assert!(!first.created.may_be(Created(12)));
    }

    #[test]
    fn an_invalid_plan_is_rejected() {
        for (handlers, attempt) in [("", 1), ("a", 1), ("1,,2", 1), ("1", 0)] {
            assert!(Plan::from_headers(handlers, attempt).is_err(), "{handlers:?} {attempt}");
        }
    }
}
