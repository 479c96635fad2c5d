use bytes::Bytes;
use jiff::Timestamp;
use uuid::Uuid;

use super::*;
use crate::{
    domain::{
        dead_letter::{DeadLetter, DeadLetterMessage, State},
        replay::ReplayLimits,
        trace::Trace,
    },
    store::{
        Closing, DeadLetterFilter,
        testing::{Database, handler_spec},
    },
};

fn dead_letter(error: &str, plan: &[i64]) -> DeadLetterMessage {
    let meta = serde_json::json!({
        "id": Uuid::now_v7(), "event_id": "e1", "run_id": "e1", "event_name": "clients.create", "object_id": "1",
        "reason": "exhausted", "error": error, "handler_id": plan.first(), "handler_name": "CRM", "attempts": 8,
        "plan": plan, "first_failed_at": Timestamp::now(), "died_at": Timestamp::now(), "worker": null,
    });
    DeadLetterMessage {
        facts: serde_json::from_value::<DeadLetter>(meta).expect("a letter"),
        body: Bytes::from_static(b"{}"),
        content_type: None,
        exchange: None,
        routing_key: None,
        trace: Trace::default(),
    }
}

fn new_replay(by: &str) -> NewReplay {
    let caution = ReplayLimits { rate: 50, max_failures: 50 };
    NewReplay { asked: "all".into(), caution, by: by.into() }
}

async fn with_dead_letters(count: usize) -> (Database, Vec<Uuid>) {
    let database = Database::migrated().await;
    let store = database.store();
    let handler =
        store.create_handler(&handler_spec("CRM", "clients.create"), None, "me").await.expect("made");
    let messages: Vec<DeadLetterMessage> =
        (0..count).map(|n| dead_letter(&format!("error {n}"), &[handler.id.0])).collect();
    store.insert_dead_letters(&messages).await.expect("written");
    (database, messages.iter().map(|message| message.facts.id).collect())
}

async fn replay_one(run: &mut ReplayRun) -> Option<String> {
    match run.next().await.expect("claimed")? {
        ClaimedItem::Replay(item) => {
            assert_eq!((item.plan.len(), item.enabled.iter().count()), (1, 1));
            run.settle(&Settled::Replayed(None)).await.expect("settled");
            Some(item.key)
        }
        ClaimedItem::Refuse(why) => panic!("refused: {why}"),
        ClaimedItem::Pass(why) => {
            run.settle(&Settled::Passed(why.clone())).await.expect("settled");
            Some(why)
        }
    }
}

#[tokio::test]
async fn a_job_replays_its_dead_letters_oldest_first() {
    let (database, ids) = with_dead_letters(3).await;
    let store = database.store();
    let by_text = DeadLetterFilter { text: Some("ERROR".into()), ..DeadLetterFilter::default() };
    let plan = store.plan_letters(&by_text).await.expect("planned");
    assert_eq!((plan[0].count, plan[0].enabled, plan[0].handler_name.as_deref()), (3, 1, Some("CRM")));
    let job = store.create_replay(&new_replay("me"), &Selection::LettersBy(by_text)).await.expect("made");
    assert_eq!(job.counts, Counts { waiting: 3, ..Counts::default() });

    let mut run = store.run_replay(job.id).await.expect("taken");
    let busy = store.run_replay(job.id).await.err().expect("it runs already").to_string();
    assert!(busy.contains("running already"), "{busy}");
    assert_eq!(run.events().await.expect("events")[0].as_str(), "clients.create");
    assert_eq!(replay_one(&mut run).await, Some(ids[0].to_string()));
    // A process that is killed now has settled one item and claimed another. Both locks end with its connection.
    run.next().await.expect("claimed");
    drop(run);
    let mut run = loop {
        match store.run_replay(job.id).await {
            Ok(run) => break run,
            Err(StoreError::Refused(_)) => tokio::task::yield_now().await,
            Err(error) => panic!("{error}"),
        }
    };
    assert_eq!(replay_one(&mut run).await, Some(ids[1].to_string()), "it is in hand again");
    assert_eq!(replay_one(&mut run).await, Some(ids[2].to_string()));
    assert_eq!(replay_one(&mut run).await, None);
    let done = run.end(JobState::Finished, None).await.expect("ended");
    assert_eq!(done.counts, Counts { replayed: 3, ..Counts::default() });
    let row = store.dead_letter(ids[1]).await.expect("there").row;
    assert_eq!((row.state, row.state_changed_by.as_deref()), (State::Replayed, Some("me")));
    assert!(store.unfinished_replays(Source::DeadLetters).await.expect("listed").is_empty());
}

#[tokio::test]
async fn two_jobs_share_dead_letters() {
    let (database, ids) = with_dead_letters(2).await;
    let store = database.store();
    let all = Selection::LettersBy(DeadLetterFilter::default());
    let (first, second) = (
        store.create_replay(&new_replay("Ann"), &all).await.expect("made"),
        store.create_replay(&new_replay("Bob"), &all).await.expect("made"),
    );
    let mut ann = store.run_replay(first.id).await.expect("taken");
    let mut bob = store.run_replay(second.id).await.expect("taken");
    let Some(ClaimedItem::Replay(_)) = ann.next().await.expect("claimed") else { panic!("open") };
    // Bob waits for the dead letter that Ann has claimed.
    let (settled, passed) = tokio::join!(ann.settle(&Settled::Replayed(None)), replay_one(&mut bob));
    settled.expect("settled");
    assert!(passed.expect("one").contains("replayed already, by Ann"));
    assert_eq!(replay_one(&mut bob).await, Some(ids[1].to_string()));
    assert!(replay_one(&mut ann).await.expect("one").contains("by Bob"));
    bob.end(JobState::Finished, None).await.expect("ended");
    ann.end(JobState::Stopped, Some("asked to")).await.expect("ended");
}

#[tokio::test]
async fn unknown_ids_make_no_job() {
    let (database, ids) = with_dead_letters(1).await;
    let store = database.store();
    let unknown = Uuid::now_v7();
    let error = store
        .create_replay(&new_replay("me"), &Selection::Letters(vec![ids[0], unknown]))
        .await
        .expect_err("unknown");
    assert!(matches!(&error, StoreError::NotFound(name) if name.contains(&unknown.to_string())), "{error}");
    assert!(store.unfinished_replays(Source::DeadLetters).await.expect("listed").is_empty());
}

#[tokio::test]
async fn only_closed_dead_letters_are_deleted_after_their_retention() {
    let (database, ids) = with_dead_letters(4).await;
    let store = database.store();
    let closing = Closing::These(&ids[..2]);
    assert_eq!(store.discard_dead_letters(closing, "not needed", "me").await.expect("discarded"), 2);
    assert_eq!(store.discard_dead_letters(closing, "again", "you").await.expect("none is open"), 0);
    let row = store.dead_letter(ids[0]).await.expect("there").row;
    assert_eq!((row.state, row.state_note.as_deref()), (State::Discarded, Some("not needed")));
    database
        .psql(&format!(
            "UPDATE dead_letters SET died_at = now() - interval '400 days', recorded_at = now() - interval '400 days';
             UPDATE dead_letters SET state_changed_at = now() - interval '181 days' WHERE id = '{}';
             UPDATE dead_letters SET state_changed_at = now() - interval '179 days' WHERE id = '{}'",
            ids[0], ids[1]
        ))
        .await;
    let mut jobs = Vec::new();
    for _ in 0..2 {
        let kept = ids.get(1..).expect("letters").to_vec();
        jobs.push(store.create_replay(&new_replay("me"), &Selection::Letters(kept)).await.expect("a job").id);
    }
    store.stop_replay(jobs[1], "me").await.expect("stopped");
    database
        .psql("UPDATE replays SET created_at = now() - interval '181 days', ended_at = ended_at - interval '181 days'")
        .await;
    assert_eq!(store.forget_closed_dead_letters(180).await.expect("deleted"), 1);
    store.replay(jobs[0]).await.expect("it has no end, and is kept");
    assert!(matches!(store.replay(jobs[1]).await, Err(StoreError::NotFound(_))));
    assert!(matches!(store.dead_letter(ids[0]).await, Err(StoreError::NotFound(_))));
    for kept in &ids[1..] {
        store.dead_letter(*kept).await.expect("kept");
    }
}
