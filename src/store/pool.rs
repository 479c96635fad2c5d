//! How connections are made: a lazy pool, and single ones beside it.
//!
//! Every step has a bound: a server that accepts and never speaks, a link that drops packets and a
//! statement that runs away all end in an error within seconds.

use std::{path::PathBuf, sync::Arc, time::Duration};

use anyhow::Context;
use deadpool_postgres::{
    ClientWrapper, Hook, HookError, Manager, ManagerConfig, Pool, RecyclingMethod, Runtime, Timeouts,
};
use tokio::sync::Semaphore;
use tokio_postgres::{CancelToken, Client, Config, Connection, Socket, config::SslMode, tls::MakeTlsConnect};

use super::{Result, Store, StoreError, tls};
use crate::domain::seal::Seals;

/// The server gives a statement up after this long; a session waits a little longer for the answer.
pub(super) const STATEMENT_TIMEOUT: Duration = Duration::from_secs(15);
/// Connections beside the pool's that are never used for long work.
const RESERVED: usize = 2;
/// At a time, and never more than half of the pool: the rest is for everybody else.
const MAX_TEXT_SEARCHES: usize = 4;

/// Where the database is, and how it is reached.
#[derive(Clone)]
pub struct StoreSettings {
    /// `postgres://…` or `key=value …`; `sslmode` is `disable` (as if absent) or `verify-full`.
    pub url: String,
    pub pool_size: usize,
    /// For a connection to be made, handshakes included, and for one of the pool to become free.
    pub connect_timeout: Duration,
    /// Trusted instead of the system's authorities. Alone, it means `verify-full`.
    pub ca_file: Option<PathBuf>,
    /// What secrets are encrypted with.
    pub seals: Seals,
}

/// Makes single connections.
pub(super) struct Dialer {
    config: Config,
    tls: tls::Connector,
    timeout: Duration,
}

type Dialed = (Client, Connection<Socket, <tls::Connector as MakeTlsConnect<Socket>>::Stream>);

impl Store {
    /// Whether the database answers.
    pub async fn ping(&self) -> Result<(), StoreError> {
        self.reserved_session().await?.query_opt("SELECT 1", &[]).await.map(drop)
    }

    /// Makes no connection yet: the first use does.
    ///
    /// # Errors
    /// If the settings cannot be right: the url, the CA file.
    pub fn connect(settings: &StoreSettings) -> anyhow::Result<Self> {
        let dialer = Dialer::new(settings)?;
        let text_searches = (settings.pool_size / 2).clamp(1, MAX_TEXT_SEARCHES);
        Ok(Self {
            pool: dialer.pool(settings.pool_size)?,
            reserved: dialer.pool(RESERVED)?,
            text_searches: Arc::new(Semaphore::new(text_searches)),
            dedicated: Arc::new(dialer),
            seals: Arc::new(settings.seals.clone()),
        })
    }
}

impl Dialer {
    fn new(settings: &StoreSettings) -> anyhow::Result<Self> {
        // The url may hold a password: no error quotes it.
        let from_url = tls::take_from_url(&settings.url).context("the database url is not usable")?;
        let mut config: Config = from_url.url.parse().context("the database url is not usable")?;
        if config.get_hosts().is_empty() {
            anyhow::bail!("the database url names no host, as postgres://user@host/database does");
        }
        let ca_file = settings.ca_file.as_deref().or(from_url.ca_file.as_deref());
        let no_mode_said = !settings.url.contains("sslmode=");
        let tls = if from_url.required || (no_mode_said && ca_file.is_some()) {
            config.ssl_mode(SslMode::Require);
            tls::verifying(ca_file)?
        } else {
            config.ssl_mode(SslMode::Disable);
            tls::unused()?
        };
        bound(&mut config, settings.connect_timeout);
        Ok(Self { config, tls, timeout: settings.connect_timeout })
    }

    fn pool(&self, max_size: usize) -> anyhow::Result<Pool> {
        let recycling = ManagerConfig { recycling_method: RecyclingMethod::Verified };
        let manager = Manager::from_config(self.config.clone(), self.tls.clone(), recycling);
        let settings: Arc<str> = session_settings(self.config.get_options().unwrap_or_default()).into();
        let set = Hook::async_fn(move |client: &mut ClientWrapper, _| {
            let settings = Arc::clone(&settings);
            Box::pin(async move { client.batch_execute(&settings).await.map_err(HookError::Backend) })
        });
        Pool::builder(manager)
            .post_create(set)
            .max_size(max_size)
            .runtime(Runtime::Tokio1)
            .timeouts(Timeouts {
                wait: Some(self.timeout),
                create: Some(self.timeout),
                // An idle connection whose link is dead must not cost its user much.
                recycle: Some(Duration::from_secs(2)),
            })
            .build()
            .context("the connection pool cannot be built")
    }

    /// Asks the server to end the statement that a connection is busy with; whether it does is not known.
    pub(super) async fn cancel(&self, token: CancelToken) {
        // Who wanted it is gone already; without this, the statement ends at its own timeout.
        let _ = tokio::time::timeout(self.timeout, token.cancel_query(self.tls.clone())).await;
    }

    pub(super) async fn dial(&self) -> Result<Dialed> {
        match tokio::time::timeout(self.timeout, self.config.connect(self.tls.clone())).await {
            Ok(Ok(dialed)) => Ok(dialed),
            Ok(Err(error)) => Err(deadpool_postgres::PoolError::Backend(error).into()),
            Err(_) => Err(StoreError::unavailable("connecting took too long")),
        }
    }
}

fn bound(config: &mut Config, connect_timeout: Duration) {
    if config.get_application_name().is_none() {
        config.application_name("provisiond");
    }
    config
        .connect_timeout(connect_timeout)
        .keepalives(true)
        .keepalives_idle(Duration::from_secs(4))
        .keepalives_interval(Duration::from_secs(2))
        .keepalives_retries(3)
        // What was sent and is not acknowledged: keepalives do not look at that.
        .tcp_user_timeout(Duration::from_secs(10));
}

/// What every connection of a pool is told once it is made: as statements, because poolers refuse them as `options`. What
/// the url sets in its own `options` stays as it is.
fn session_settings(own: &str) -> String {
    let statement_timeout = STATEMENT_TIMEOUT.as_millis().to_string();
    [
        ("statement_timeout", statement_timeout.as_str()),
        ("lock_timeout", "10000"),
        ("idle_in_transaction_session_timeout", "60000"),
        ("TimeZone", "'UTC'"),
    ]
    .into_iter()
    .filter(|(name, _)| !own.to_lowercase().contains(&name.to_lowercase()))
    .fold(String::new(), |set, (name, value)| format!("{set}SET {name} = {value};"))
}
