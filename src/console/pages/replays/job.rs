//! Replay jobs: the list, and the page of one job.

use askama::Template;
use axum::{
    extract::{Path, State},
    response::{IntoResponse, Redirect},
};

use crate::{
    console::{
        Console,
        access::{Operator, Viewer},
        pages::{
            Answer,
            fields::{Fields, Query},
            format::{grouped, moment, unsigned},
            html,
            layout::{Frame, Section},
            lists::Pager,
        },
        problem::Problem,
    },
    domain::replay::{JobState, Source},
    store::{Refusal, Replay},
};

const PAGE_SIZE: usize = 50;

/// The texts and numbers of a job.
struct Job {
    id: i64,
    state: &'static str,
    tone: &'static str,
    is_running: bool,
    can_resume: bool,
    note: String,
    source: &'static str,
    selection: String,
    done: i64,
    total: i64,
    replayed: i64,
    refused: i64,
    passed: i64,
    waiting: i64,
    /// The first attempts so far. Only for a job that runs in this process.
    first_attempts: Option<String>,
    rate: u32,
    max_failures: u8,
    by: String,
    began: String,
}

impl Job {
    /// `is_left`: the job is stored as running, but no process runs it.
    fn of(replay: &Replay, is_left: bool) -> Self {
        let (state, tone) = match replay.state {
            JobState::Running if is_left => ("interrupted", "warn"),
            JobState::Running => ("running", "warn"),
            JobState::Stopped => ("stopped", "warn"),
            JobState::Finished if replay.counts.refused > 0 => ("finished", "bad"),
            JobState::Finished => ("finished", "good"),
        };
        let (counts, total) = (replay.counts, replay.counts.total());
        Self {
            id: replay.id,
            state,
            tone,
            is_running: replay.state == JobState::Running && !is_left,
            can_resume: replay.state == JobState::Stopped || is_left,
            note: replay.note.clone().unwrap_or_default(),
            source: match replay.source {
                Source::DeadLetters => "Dead letters",
                Source::Executions => "Executions",
            },
            selection: replay.asked.clone(),
            done: total - counts.waiting,
            total,
            replayed: counts.replayed,
            refused: counts.refused,
            passed: counts.passed,
            waiting: counts.waiting,
            first_attempts: None,
            rate: replay.rate,
            max_failures: replay.max_failures,
            by: replay.created_by.clone(),
            began: moment(replay.created_at),
        }
    }
}

#[derive(Template)]
#[template(path = "replays/list.html")]
struct ListPage {
    frame: Frame,
    jobs: Vec<Job>,
    pager: Pager,
}

#[derive(Template)]
#[template(path = "replays/show.html")]
struct ShowPage {
    frame: Frame,
    job: Job,
    refusals: Vec<Refusal>,
}

pub async fn list(Viewer(identity): Viewer, State(console): State<Console>, Query(query): Query) -> Answer {
    let before = query.get("after").parse().ok();
    let mut replays = console.store().list_replays(PAGE_SIZE + 1, before).await?;
    let more = replays.len() > PAGE_SIZE;
    replays.truncate(PAGE_SIZE);
    let jobs: Vec<Job> = replays.iter().map(|replay| Job::of(replay, false)).collect();
    let next = jobs.last().filter(|_| more).map(|job| format!("/replays?after={}", job.id));
    let count = u64::try_from(jobs.len()).unwrap_or_default();
    let frame = Frame::in_section(Section::DeadLetters, "Replays", &identity);
    let pager =
        Pager::new(count, next, &Fields::default(), "/replays", before.is_some(), ("replay", "replays"));
    html(&ListPage { frame, jobs, pager })
}

fn number(text: &str) -> Result<i64, Problem> {
    text.parse().map_err(|_| Problem::not_found(format!("there is no replay {text}")))
}

pub async fn show(
    Viewer(identity): Viewer,
    State(console): State<Console>,
    Path(text): Path<String>,
) -> Answer {
    let (id, store) = (number(&text)?, console.store());
    let replay = store.replay(id).await?;
    let progress = console.jobs.progress(id);
    let seems_running = replay.state == JobState::Running && progress.is_none();
    let is_left = seems_running && !store.is_replay_running(id).await?;
    let mut job = Job::of(&replay, is_left);
    job.first_attempts = progress.filter(|progress| progress.first_attempts > 0).map(|progress| {
        format!("{} ended, {} of them failed", grouped(progress.first_attempts), grouped(progress.failed))
    });
    let refusals = if job.refused > 0 { store.refusals(id).await? } else { Vec::new() };
    let frame = Frame::in_section(Section::DeadLetters, &format!("Replay {id}"), &identity);
    html(&ShowPage { frame, job, refusals })
}

pub async fn stop(
    Operator(identity): Operator,
    State(console): State<Console>,
    Path(text): Path<String>,
) -> Answer {
    let id = number(&text)?;
    console.jobs.stop(id, &identity.by()).await?;
    Ok(Redirect::to(&format!("/replays/{id}")).into_response())
}

pub async fn resume(
    Operator(_): Operator,
    State(console): State<Console>,
    Path(text): Path<String>,
) -> Answer {
    let id = number(&text)?;
    console.jobs.resume(id, None).await?;
    Ok(Redirect::to(&format!("/replays/{id}")).into_response())
}

impl Job {
    /// The `max` of the progress bar: the number of items, or 1 for an empty job, because 0 is not valid HTML.
    fn progress_max(&self) -> u64 {
        unsigned(self.total).max(1)
    }
}
