//! `dead-letters replay`.

use std::{io::Write as _, path::Path, process::Command};

use anyhow::Context as _;
use bytes::Bytes;
use uuid::Uuid;

use super::filter::{Filter, ReasonArg, Which};
use crate::{
    cli::{
        context::{Context, read_text},
        error::CliError,
        replays::{Flags, replay_selection, resume},
        time::parse_id,
    },
    dead_letters::edited_event,
    domain::{dead_letter::State, replay::Source},
    store::{Selection, StoredDeadLetter},
};

#[derive(clap::Args)]
#[command(after_help = "\
A replay runs the handlers that the dead letter names: one handler, or a handler and the handlers that waited for it.
For a dead letter of a whole event it runs all handlers that are enabled now. The event keeps its id.
If no handler would run, the replay of this dead letter is refused, and it stays open.
Each dead letter is replayed only once, even if two people replay it at the same time.
To continue a replay that was stopped or killed, use --resume.")]
pub(in crate::cli) struct Args {
    /// Ids of dead letters, as the list shows them
    #[arg(value_parser = parse_id, value_name = "ID")]
    ids: Vec<Uuid>,
    #[command(flatten)]
    filter: Filter,
    #[command(flatten)]
    reason: ReasonArg,
    /// Every open dead letter
    #[arg(long, help_heading = "Which dead letters")]
    all: bool,
    #[command(flatten)]
    flags: Flags,
    /// Edit the body in $VISUAL or $EDITOR first; the edited event gets a new id
    #[arg(long, conflicts_with_all = ["data", "resume"])]
    edit: bool,
    /// Replay with this body instead: the whole event as JSON; @FILE reads a file, - reads stdin
    #[arg(long, value_name = "JSON|@FILE|-", conflicts_with = "resume", allow_hyphen_values = true)]
    data: Option<String>,
}

pub(super) async fn run(context: &Context, args: Args) -> Result<(), CliError> {
    let Args { ids, filter, reason, all, flags, edit, data } = args;
    if let Some(job) = flags.resume {
        return resume(context, Source::DeadLetters, job, &flags).await;
    }
    match Which::of(ids, filter.with(reason, State::Open), all)? {
        Which::These(ids) if edit || data.is_some() => {
            let [id] = ids.as_slice() else {
                return Err(CliError::usage("--edit and --data replay one dead letter: name one id"));
            };
            replay_edited(context, *id, data.as_deref(), &flags).await
        }
        Which::By(_) if edit || data.is_some() => {
            Err(CliError::usage("--edit and --data replay one dead letter: name its id"))
        }
        Which::These(ids) => {
            check_open(context, &ids).await?;
            let description = format!("{} by id", ids.len());
            replay_selection(context, Selection::Letters(ids), &description, &flags).await
        }
        Which::By(filter) => {
            let mut description = filter.to_string();
            if description.is_empty() {
                "all".clone_into(&mut description);
            }
            replay_selection(context, Selection::LettersBy(filter), &description, &flags).await
        }
    }
}

/// Fails if one of the dead letters is closed. An operator who names an id wants to know that.
async fn check_open(context: &Context, ids: &[Uuid]) -> Result<(), CliError> {
    let store = context.store()?;
    for id in ids {
        require_open(&store.dead_letter(*id).await?)?;
    }
    Ok(())
}

pub(super) fn require_open(dead_letter: &StoredDeadLetter) -> Result<(), CliError> {
    let row = &dead_letter.row;
    if row.state == State::Open {
        return Ok(());
    }
    let by = row.state_changed_by.as_deref().unwrap_or("somebody");
    Err(CliError::failed(format!(
        "dead letter {} was already {} by {by}; to run its handlers again: provisiond executions replay",
        row.letter.id, row.state
    )))
}

async fn replay_edited(
    context: &Context,
    id: Uuid,
    data: Option<&str>,
    flags: &Flags,
) -> Result<(), CliError> {
    let dead_letters = context.dead_letters()?;
    let dead_letter = dead_letters.store.dead_letter(id).await?;
    require_open(&dead_letter)?;
    let (body, kept_path) = match data {
        Some(data) => (Bytes::from(read_text(data)?), None),
        None => edit(&dead_letter.body)?,
    };
    let (meta, content_type) = (&dead_letter.row.letter, dead_letter.content_type.as_deref());
    if let Err(why) = edited_event(meta, content_type, &body, dead_letters.max_event_bytes) {
        let hint = kept_path.map(|path| format!("; your text is kept in {path} (--data @{path})"));
        return Err(CliError::failed(format!("the body is not an event: {why}{}", hint.unwrap_or_default())));
    }
    if let Some(path) = kept_path {
        let _ = std::fs::remove_file(path);
    }
    replay_selection(context, Selection::Edited(id, body), "1 by id, edited", flags).await
}

/// Opens an editor with `body`. Also returns the path of the edited file, which is kept until the event is known to be
/// valid.
fn edit(body: &[u8]) -> Result<(Bytes, Option<String>), CliError> {
    let mut file = tempfile::Builder::new().prefix("dead-letter-").suffix(".json").tempfile()?;
    file.write_all(body)?;
    let path = file.into_temp_path().keep().map_err(anyhow::Error::from)?;
    run_editor(&path)?;
    let edited = std::fs::read(&path)?;
    // Editors add a newline at the end.
    let unchanged = edited == body || edited.strip_suffix(b"\n") == Some(body);
    if unchanged {
        let _ = std::fs::remove_file(&path);
        return Err(CliError::failed(
            "the body was not changed: nothing was replayed; to replay it unchanged, omit --edit",
        ));
    }
    Ok((Bytes::from(edited), Some(path.display().to_string())))
}

fn run_editor(path: &Path) -> Result<(), CliError> {
    let editor = ["VISUAL", "EDITOR"].into_iter().find_map(|name| std::env::var(name).ok());
    let editor = editor.filter(|editor| !editor.trim().is_empty()).unwrap_or_else(|| "vi".to_owned());
    // The variable may contain arguments, as in "code --wait".
    let result = Command::new("sh").arg("-c").arg(format!("{editor} \"$1\"")).arg("sh").arg(path).status();
    let status = result.with_context(|| format!("cannot run the editor {editor} ($EDITOR)"))?;
    if status.success() {
        return Ok(());
    }
    Err(CliError::failed(format!("the editor {editor} ended with {status}: nothing was replayed")))
}
