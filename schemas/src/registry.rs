//! A client of the Confluent schema registry's REST interface (also spoken by Apicurio, Redpanda and Karapace).
//!
//! Blocking, since it is asked once per schema and not per message.

use std::time::Duration;

use serde_json::{Value, json};

/// Why the registry did not help.
#[derive(Debug, thiserror::Error)]
pub enum RegistryError {
    /// It can't be reached, or answers with a server error.
    #[error("the schema registry at {url} does not answer: {cause}; is it up, and is --schema-registry right?")]
    Unreachable {
        /// Where it was looked for.
        url: String,
        /// What happened.
        cause: String,
    },
    /// It answers, but refuses.
    #[error("the schema registry refuses {url} with status {status}: {message}")]
    Refused {
        /// What was asked.
        url: String,
        /// HTTP status.
        status: u16,
        /// What it says.
        message: String,
    },
}

impl RegistryError {
    /// True where the same question may be answered later: also where it is refused because of who asks, or how often. Only
    /// that there is no such schema, that it is none or that it fits no earlier one says something about the schema.
    #[must_use]
    pub fn is_transient(&self) -> bool {
        match self {
            Self::Unreachable { .. } => true,
            Self::Refused { status, .. } => !matches!(status, 404 | 409 | 422),
        }
    }
}

/// A schema registry.
#[derive(Debug, Clone)]
pub struct Registry {
    url: String,
    agent: ureq::Agent,
}

impl Registry {
    /// The registry at `url`. Nothing is asked yet.
    #[must_use]
    pub fn new(url: &str) -> Self {
        let config =
            ureq::Agent::config_builder().timeout_global(Some(Duration::from_secs(10))).http_status_as_error(false);
        Self { url: url.trim_end_matches('/').to_owned(), agent: config.build().into() }
    }

    /// Registers a schema under a subject and gives its id; the same schema gets the same id again.
    ///
    /// # Errors
    /// Where the registry does not answer, or holds the schema incompatible with the subject's earlier ones.
    pub fn register(&self, subject: &str, schema: &str) -> Result<u32, RegistryError> {
        let url = format!("{}/subjects/{subject}/versions", self.url);
        let request = self.agent.post(&url).header("Content-Type", "application/vnd.schemaregistry.v1+json");
        let answer = Self::answer(&url, request.send_json(json!({ "schema": schema })))?;
        let id = answer["id"].as_u64().and_then(|id| u32::try_from(id).ok());
        id.ok_or_else(|| Self::unreachable(&url, format!("its answer holds no id: {answer}")))
    }

    /// The schema with an id.
    ///
    /// # Errors
    /// Where the registry does not answer or does not know the id.
    pub fn schema(&self, id: u32) -> Result<String, RegistryError> {
        let url = format!("{}/schemas/ids/{id}", self.url);
        let answer = Self::answer(&url, self.agent.get(&url).call())?;
        let schema = answer["schema"].as_str().map(str::to_owned);
        schema.ok_or_else(|| Self::unreachable(&url, format!("its answer holds no schema: {answer}")))
    }

    fn answer(
        url: &str,
        response: Result<ureq::http::Response<ureq::Body>, ureq::Error>,
    ) -> Result<Value, RegistryError> {
        let mut response = response.map_err(|error| Self::unreachable(url, error.to_string()))?;
        let status = response.status();
        let text = response.body_mut().read_to_string().map_err(|error| Self::unreachable(url, error.to_string()))?;
        if status.is_server_error() {
            return Err(Self::unreachable(url, format!("status {}: {text}", status.as_u16())));
        }
        if !status.is_success() {
            return Err(RegistryError::Refused { url: url.to_owned(), status: status.as_u16(), message: text });
        }
        serde_json::from_str(&text).map_err(|error| Self::unreachable(url, error.to_string()))
    }

    fn unreachable(url: &str, cause: String) -> RegistryError {
        RegistryError::Unreachable { url: url.to_owned(), cause }
    }
}
