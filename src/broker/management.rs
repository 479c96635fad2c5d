//! A client of RabbitMQ's management API, for what AMQP does not report: which queues exist, and the policies in force
//! on them.

use std::time::Duration;

use anyhow::Context as _;
use lapin::uri::AMQPUri;
use reqwest::{Client, StatusCode};
use secrecy::{ExposeSecret, SecretString};
use serde::Deserialize;
use serde_json::{Map, Value};
use url::Url;

use super::{connect::BrokerSettings, transport::tls_config};
use crate::tls::without_trust;

/// Timeout for one page of the answer.
const REQUEST_TIMEOUT: Duration = Duration::from_secs(5);
const PAGE_SIZE: usize = 500;
const COLUMNS: &str = "name,messages,arguments,policy,operator_policy,effective_policy_definition";

/// A client of the management API.
pub(super) struct Management {
    client: Client,
    queues: Url,
    user: String,
    password: SecretString,
}

/// A queue, and the policies in force on it.
#[derive(Debug, Default, Deserialize)]
pub(super) struct ManagedQueue {
    pub name: String,
    /// Absent for some seconds after the queue was created.
    pub messages: Option<u64>,
    #[serde(default)]
    pub arguments: Table,
    pub policy: Option<String>,
    pub operator_policy: Option<String>,
    /// The definitions of the policy and the operator policy together.
    #[serde(default)]
    pub effective_policy_definition: Table,
}

/// Keys and values. RabbitMQ writes an empty table as an empty list.
#[derive(Debug, Default, Deserialize)]
#[serde(untagged)]
pub(super) enum Table {
    Some(Map<String, Value>),
    None([Value; 0]),
    #[default]
    Null,
}

#[derive(Deserialize)]
struct Page {
    items: Vec<ManagedQueue>,
    page_count: usize,
}

impl Table {
    pub fn get(&self, key: &str) -> Option<&Value> {
        match self {
            Self::Some(map) => map.get(key),
            Self::None(_) | Self::Null => None,
        }
    }
}

impl Management {
    /// `None` if `amqp.management_url` is not set.
    pub fn new(settings: &BrokerSettings) -> anyhow::Result<Option<Self>> {
        let Some(url) = &settings.management_url else { return Ok(None) };
        let mut url = Url::parse(url.expose_secret()).context("amqp.management_url is not a valid URL")?;
        let amqp: AMQPUri = settings
            .urls
            .first()
            .context("no amqp.url is configured")?
            .expose_secret()
            .parse()
            .map_err(|error| anyhow::anyhow!("amqp.url is not a valid AMQP URL: {error}"))?;
        let (user, password) = match (decoded(url.username())?, url.password()) {
            (user, None) if user.is_empty() => {
                (amqp.authority.userinfo.username, amqp.authority.userinfo.password)
            }
            (user, password) => (user, decoded(password.unwrap_or_default())?),
        };
        let _ = (url.set_username(""), url.set_password(None));
        url.path_segments_mut()
            .map_err(|()| anyhow::anyhow!("amqp.management_url has no host"))?
            .pop_if_empty()
            .extend(["api", "queues", &amqp.vhost]);
        let tls = if url.scheme() == "https" { tls_config(&settings.authorities) } else { without_trust() };
        let client = Client::builder()
            .tls_backend_preconfigured(tls?)
            .timeout(REQUEST_TIMEOUT)
            .redirect(reqwest::redirect::Policy::none())
            .no_proxy()
            .build()
            .context("cannot create the client of the management API")?;
        Ok(Some(Self { client, queues: url, user, password: password.into() }))
    }

    /// All queues under `prefix`.
    pub async fn queues(&self, prefix: &str) -> anyhow::Result<Vec<ManagedQueue>> {
        let (mut queues, mut page) = (Vec::new(), 1);
        loop {
            let answer = self.page(prefix, page).await.with_context(|| {
                format!(
                    "cannot read RabbitMQ's management API at {}",
                    self.queues.origin().ascii_serialization()
                )
            })?;
            queues.extend(answer.items);
            if page >= answer.page_count {
                return Ok(queues);
            }
            page += 1;
        }
    }

    async fn page(&self, prefix: &str, page: usize) -> anyhow::Result<Page> {
        let pattern = format!("^{}[.]", prefix.replace('.', "[.]"));
        let query = [
            ("page", page.to_string()),
            ("page_size", PAGE_SIZE.to_string()),
            ("name", pattern),
            ("use_regex", "true".to_owned()),
            ("columns", COLUMNS.to_owned()),
        ];
        let mut url = self.queues.clone();
        url.query_pairs_mut().extend_pairs(query);
        let request = self.client.get(url).basic_auth(&self.user, Some(self.password.expose_secret()));
        let answer = request.send().await.map_err(reqwest::Error::without_url)?;
        match answer.status() {
            StatusCode::OK => {}
            StatusCode::UNAUTHORIZED | StatusCode::FORBIDDEN => anyhow::bail!(
                "it rejects the user {user}: the password is wrong, or the user has no access (rabbitmqctl set_user_tags {user} management)",
                user = self.user
            ),
            StatusCode::NOT_FOUND => anyhow::bail!(
                "it answers 404: there is no management API at this URL, or the virtual host in amqp.url does not exist"
            ),
            status => anyhow::bail!("it answers {status}"),
        }
        answer.json().await.map_err(reqwest::Error::without_url).context("its answer has an unknown format")
    }
}

fn decoded(text: &str) -> anyhow::Result<String> {
    let decoded = percent_encoding::percent_decode_str(text).decode_utf8();
    Ok(decoded.context("amqp.management_url: user and password must be UTF-8")?.into_owned())
}
