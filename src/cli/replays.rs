//! What the replays of dead letters and of executions share: count, ask, run, report.

use std::io::{IsTerminal as _, Write as _};

use super::{
    context::Context,
    error::CliError,
    output::{lines, short, table},
};
use crate::{
    dead_letters::{DeadLetters, Progress, Report},
    domain::{
        invisible::escaped,
        replay::{JobState, MAX_RATE, ReplayLimits, Source},
    },
    shutdown::Shutdown,
    store::{NewReplay, PlanLine, Replay, Selection},
};

/// Jobs with at least this many items show a progress bar.
const MIN_ITEMS_FOR_BAR: u64 = 100;

#[derive(clap::Args)]
pub(super) struct Flags {
    /// Do not ask for confirmation
    #[arg(short, long)]
    pub yes: bool,
    /// Only count what would be replayed
    #[arg(long)]
    pub dry_run: bool,
    /// Replay at most this many a second, 1 to 1000 [default: 50]
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u32).range(1..=i64::from(MAX_RATE)))]
    rate: Option<u32>,
    /// Stop if more than this percentage of the latest 100 first attempts failed (at least 20 must have ended); 100:
    /// never [default: 50]
    #[arg(long, value_name = "PERCENT", value_parser = parse_percent)]
    max_failures: Option<u8>,
    /// Resume the stopped or killed replay with this number; without a number: the only one that can be resumed
    #[arg(long, value_name = "REPLAY", conflicts_with_all = ["dry_run", "ids"])]
    #[expect(clippy::option_option, reason = "absent, given, given with a number")]
    pub resume: Option<Option<i64>>,
}

fn parse_percent(text: &str) -> Result<u8, &'static str> {
    let percent = text.strip_suffix('%').unwrap_or(text).trim().parse().ok();
    percent.filter(|percent| *percent <= 100).ok_or("must be 0 to 100")
}

/// Counts the selection, asks for confirmation unless the items are named by id, and replays them.
pub(super) async fn replay_selection(
    context: &Context,
    selection: Selection,
    description: &str,
    flags: &Flags,
) -> Result<(), CliError> {
    let dead_letters = context.dead_letters()?;
    let limits = flags.limits(ReplayLimits::default());
    let plan = dead_letters.plan(&selection).await?;
    let count = total(&plan);
    if flags.dry_run {
        return context.output.value(&plan, |plan| plan_table(plan));
    }
    let is_by_id =
        matches!(selection, Selection::Letters(_) | Selection::Edited(..) | Selection::Executions(..));
    if !is_by_id {
        if count == 0 {
            let empty = serde_json::json!({"replayed": 0, "refused": 0, "passed": 0, "waiting": 0});
            return context.output.value(&empty, |_| "nothing to replay\n".to_owned());
        }
        if !context.output.is_json() {
            context.output.text(&plan_table(&plan))?;
        }
        if !flags.yes {
            let seconds = u64::try_from(count).unwrap_or_default().div_ceil(u64::from(limits.rate));
            let time = humantime::format_duration(std::time::Duration::from_secs(seconds));
            confirm(&format!("Replay {count} at {} a second, for {time} or longer?", limits.rate))?;
        }
    }
    let new_replay = NewReplay { asked: description.to_owned(), caution: limits, by: Context::operator() };
    let job = dead_letters.store.create_replay(&new_replay, &selection).await?;
    run(context, &dead_letters, &job, false).await
}

/// Resumes `job`, or the only job that can be resumed.
pub(super) async fn resume(
    context: &Context,
    source: Source,
    job: Option<i64>,
    flags: &Flags,
) -> Result<(), CliError> {
    let dead_letters = context.dead_letters()?;
    let job = match job {
        Some(id) => dead_letters.store.replay(id).await?,
        None => match dead_letters.store.unfinished_replays(source).await?.as_slice() {
            [] => return Err(CliError::NotFound("there is no replay to resume".to_owned())),
            [only] => only.clone(),
            several => {
                let list = lines(several.iter().map(job_line));
                return Err(CliError::usage(format!(
                    "several replays can be resumed: give --resume one of these numbers\n{}",
                    list.trim_end()
                )));
            }
        },
    };
    let current = ReplayLimits { rate: job.rate, max_failures: job.max_failures };
    dead_letters.store.set_caution(job.id, flags.limits(current)).await?;
    run(context, &dead_letters, &job, true).await
}

impl Flags {
    /// The limits from the command line, completed from `defaults`.
    fn limits(&self, defaults: ReplayLimits) -> ReplayLimits {
        ReplayLimits {
            rate: self.rate.unwrap_or(defaults.rate),
            max_failures: self.max_failures.unwrap_or(defaults.max_failures),
        }
    }
}

fn job_line(job: &Replay) -> String {
    let (done, total) = (job.counts.total() - job.counts.waiting, job.counts.total());
    let note = job.note.as_ref().map(|note| format!(" ({})", short(note, 60))).unwrap_or_default();
    format!(
        "{:>6}  {done} of {total} done, {}, by {}: {}{note}",
        job.id, job.state, job.created_by, job.asked
    )
}

async fn run(
    context: &Context,
    dead_letters: &DeadLetters,
    job: &Replay,
    is_resumed: bool,
) -> Result<(), CliError> {
    let total = u64::try_from(job.counts.total()).unwrap_or_default();
    let bar = if total < MIN_ITEMS_FOR_BAR { indicatif::ProgressBar::hidden() } else { context.bar(total) };
    if !context.output.is_json() {
        Context::hint(&format!("replay {} started; Ctrl-C stops it, and it can be resumed", job.id));
    }
    let shutdown = Shutdown::listen()?;
    let show_progress = |progress: &Progress| {
        bar.set_position(progress.settled);
        bar.set_message(format!("{} failed", progress.failed));
    };
    let stop = shutdown.token();
    let result = tokio::select! {
        result = dead_letters.run_replay(job.id, is_resumed, &stop, show_progress) => result,
        () = shutdown.cut() => Err(anyhow::anyhow!("received a second stop signal")),
    };
    bar.finish_and_clear();
    let resume = resume_command(job);
    let report = result
        .map_err(|error| error.context(format!("the replay was interrupted; resume it with {resume}")))?;
    context.output.value(&report, report_text)?;
    match report.replay.state {
        JobState::Finished if report.replay.counts.refused == 0 => Ok(()),
        JobState::Finished => Err(CliError::Reported),
        _ => {
            let why = report.replay.note.unwrap_or_default();
            Err(CliError::failed(format!("replay {} stopped: {why}; resume it with {resume}", job.id)))
        }
    }
}

fn resume_command(job: &Replay) -> String {
    let command = match job.source {
        Source::DeadLetters => "dead-letters",
        Source::Executions => "executions",
    };
    format!("provisiond {command} replay --resume {}", job.id)
}

fn report_text(report: &Report) -> String {
    let counts = report.replay.counts;
    let others = [
        (counts.passed, "already replayed or discarded"),
        (counts.refused, "refused"),
        (counts.waiting, "still to be replayed"),
    ];
    let others = others.into_iter().filter(|(count, _)| *count > 0);
    let mut first = vec![format!("replayed {} of {}", counts.replayed, counts.total())];
    first.extend(others.map(|(count, label)| format!("{count} {label}")));
    let mut rows = vec![first.join(", ")];
    rows.extend(report.refusals.iter().map(|r| format!("  refused {}: {}", r.count, short(&r.why, 200))));
    if report.first_attempts + report.unheard > 0 {
        let succeeded = report.first_attempts - report.failed;
        let pending = match report.unheard {
            0 => String::new(),
            n => format!(", {n} without a result yet"),
        };
        rows.push(format!("first attempts: {succeeded} succeeded, {} failed{pending}", report.failed));
    }
    lines(rows.iter())
}

pub(super) fn total(plan: &[PlanLine]) -> i64 {
    plan.iter().map(|line| line.count).sum()
}

/// A table of the counts by event and handler.
pub(super) fn plan_table(plan: &[PlanLine]) -> String {
    if plan.is_empty() {
        return "none\n".to_owned();
    }
    let rows = table(
        ["Count", "Event", "Handler", "Now"],
        plan.iter().map(|line| {
            let name = line.handler_name.as_deref().unwrap_or_default();
            let handler = line.handler_id.map(|id| format!("{} (id {id})", short(name, 40)));
            let now = match (line.handler_id, line.enabled) {
                _ if line.replaced => "deleted: another handler has this id now".to_owned(),
                (Some(_), 0) => "not enabled".to_owned(),
                (Some(_), _) => "enabled".to_owned(),
                (None, 0) => "no handler is enabled".to_owned(),
                (None, n) => format!("{n} enabled"),
            };
            [
                line.count.to_string(),
                short(&line.event, 60),
                handler.unwrap_or_else(|| "the whole event".to_owned()),
                now,
            ]
        }),
    );
    format!("{rows}{} in total\n", total(plan))
}

/// Asks on the terminal. Any answer but yes is an error.
pub(super) fn confirm(question: &str) -> Result<(), CliError> {
    if !std::io::stdin().is_terminal() {
        return Err(CliError::usage(format!("{question} No terminal to ask on: confirm with --yes")));
    }
    let mut stderr = std::io::stderr().lock();
    write!(stderr, "{} [y/N] ", escaped(question))?;
    stderr.flush()?;
    let mut answer = String::new();
    std::io::stdin().read_line(&mut answer)?;
    if matches!(answer.trim().to_ascii_lowercase().as_str(), "y" | "yes") {
        return Ok(());
    }
    Err(CliError::failed("not confirmed: nothing was done"))
}
