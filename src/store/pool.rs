//! Connections: a pool that connects on demand, and single connections outside of it.
//!
//! Every step has a timeout. A server that accepts but never answers, a network that drops packets, and a statement
//! that does not end all cause an error within seconds.

use std::{path::PathBuf, sync::Arc, time::Duration};

use anyhow::Context;
use deadpool_postgres::{
    ClientWrapper, Hook, HookError, Manager, ManagerConfig, Pool, RecyclingMethod, Runtime, Timeouts,
};
use tokio::sync::Semaphore;
use tokio_postgres::{CancelToken, Client, Config, Connection, Socket, config::SslMode, tls::MakeTlsConnect};

use super::{Result, Store, StoreError, tls};
use crate::domain::seal::Seals;

/// The server cancels a statement after this time. A session waits a little longer for the answer.
pub(super) const STATEMENT_TIMEOUT: Duration = Duration::from_secs(15);
/// Connections outside of the main pool that are never used for long work.
const RESERVED_CONNECTIONS: usize = 2;
/// The most text searches at the same time. They may also use only half of the pool, but at least one connection.
const MAX_TEXT_SEARCHES: usize = 4;

/// The address of the database, and how to connect to it.
#[derive(Clone)]
pub struct StoreSettings {
    /// `postgres://…` or `key=value …`. `sslmode` is `disable` (the default) or `verify-full`.
    pub url: String,
    pub pool_size: usize,
    /// The timeout for a new connection, handshakes included, and for a connection of the pool to become free.
    pub connect_timeout: Duration,
    /// CA certificates that replace those of the system. Without an `sslmode`, this means `verify-full`.
    pub ca_file: Option<PathBuf>,
    /// Encrypts and decrypts the secrets of handlers.
    pub seals: Seals,
}

/// Opens single connections, and makes the pools.
pub(super) struct Dialer {
    config: Config,
    tls: tls::Connector,
    timeout: Duration,
}

type Dialed = (Client, Connection<Socket, <tls::Connector as MakeTlsConnect<Socket>>::Stream>);

impl Store {
    /// Checks that the database answers.
    pub async fn ping(&self) -> Result<(), StoreError> {
        self.reserved_session().await?.query_opt("SELECT 1", &[]).await.map(drop)
    }

    /// Makes the pools. The first use connects.
    ///
    /// # Errors
    /// If the URL or the CA file is not valid.
    pub fn connect(settings: &StoreSettings) -> anyhow::Result<Self> {
        let dialer = Dialer::new(settings)?;
        let text_searches = (settings.pool_size / 2).clamp(1, MAX_TEXT_SEARCHES);
        Ok(Self {
            pool: dialer.pool(settings.pool_size)?,
            reserved: dialer.pool(RESERVED_CONNECTIONS)?,
            text_searches: Arc::new(Semaphore::new(text_searches)),
            dedicated: Arc::new(dialer),
            seals: Arc::new(settings.seals.clone()),
        })
    }
}

impl Dialer {
    fn new(settings: &StoreSettings) -> anyhow::Result<Self> {
        // The URL may contain a password, so no error quotes it.
        let from_url = tls::take_from_url(&settings.url).context("database.url is not valid")?;
        let mut config: Config = from_url.url.parse().context("database.url is not valid")?;
        if config.get_hosts().is_empty() {
            anyhow::bail!("database.url has no host: write it as postgres://user@host/database");
        }
        let ca_file = settings.ca_file.as_deref().or(from_url.ca_file.as_deref());
        let has_no_mode = !settings.url.contains("sslmode=");
        let tls = if from_url.required || (has_no_mode && ca_file.is_some()) {
            config.ssl_mode(SslMode::Require);
            tls::verifying(ca_file)?
        } else {
            config.ssl_mode(SslMode::Disable);
            tls::unused()?
        };
        set_timeouts(&mut config, settings.connect_timeout);
        Ok(Self { config, tls, timeout: settings.connect_timeout })
    }

    fn pool(&self, max_size: usize) -> anyhow::Result<Pool> {
        let recycling = ManagerConfig { recycling_method: RecyclingMethod::Verified };
        let manager = Manager::from_config(self.config.clone(), self.tls.clone(), recycling);
        let settings: Arc<str> = session_settings(self.config.get_options().unwrap_or_default()).into();
        let apply_settings = Hook::async_fn(move |client: &mut ClientWrapper, _| {
            let settings = Arc::clone(&settings);
            Box::pin(async move { client.batch_execute(&settings).await.map_err(HookError::Backend) })
        });
        Pool::builder(manager)
            .post_create(apply_settings)
            .max_size(max_size)
            .runtime(Runtime::Tokio1)
            .timeouts(Timeouts {
                wait: Some(self.timeout),
                create: Some(self.timeout),
                // An idle connection may be dead, and its user must not wait long to find out.
                recycle: Some(Duration::from_secs(2)),
            })
            .build()
            .context("the connection pool cannot be built")
    }

    /// Asks the server to cancel the statement of a connection. Whether the server does it is unknown.
    pub(super) async fn cancel(&self, token: CancelToken) {
        // The caller is gone. If this fails, the statement ends at its own timeout.
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

fn set_timeouts(config: &mut Config, connect_timeout: Duration) {
    if config.get_application_name().is_none() {
        config.application_name("provisiond");
    }
    config
        .connect_timeout(connect_timeout)
        .keepalives(true)
        .keepalives_idle(Duration::from_secs(4))
        .keepalives_interval(Duration::from_secs(2))
        .keepalives_retries(3)
        // For sent data that is not acknowledged; keepalives do not cover it.
        .tcp_user_timeout(Duration::from_secs(10));
}

/// SQL that sets up each new connection of a pool. These are statements because poolers reject them as `options`.
/// Settings in the URL's own `options` are kept.
fn session_settings(url_options: &str) -> String {
    let statement_timeout = STATEMENT_TIMEOUT.as_millis().to_string();
    [
        ("statement_timeout", statement_timeout.as_str()),
        ("lock_timeout", "10000"),
        ("idle_in_transaction_session_timeout", "60000"),
        ("TimeZone", "'UTC'"),
    ]
    .into_iter()
    .filter(|(name, _)| !url_options.to_lowercase().contains(&name.to_lowercase()))
    .fold(String::new(), |sql, (name, value)| format!("{sql}SET {name} = {value};"))
}
