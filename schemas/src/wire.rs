//! The header before a record's body, which tells how the body was written.
//!
//! * Avro single-object encoding: `C3 01`, then the schema's 64-bit Rabin fingerprint, little-endian (Avro 1.12,
//!   "Single-object encoding"). Needs no registry.
//! * Confluent's wire format: `00`, then the schema's id in the registry, big-endian.
//!
//! A [`Writer`] writes one of them; a [`Reader`] takes both, told apart by the first byte. A body in the current version
//! is handed on as it lies in the message. A body in another version is resolved into the current one by apache-avro,
//! so that whoever decodes has one version to know.

use std::borrow::Cow;
use std::collections::HashMap;
use std::sync::{Arc, RwLock};

use apache_avro::Schema;
use apache_avro::rabin::Rabin;

use crate::codec::{DecodeError, Encode};
use crate::record::Record;
use crate::registry::{Registry, RegistryError};

const SINGLE_OBJECT: [u8; 2] = [0xc3, 0x01];
const CONFLUENT: u8 = 0;
/// No message may make apache-avro allocate more than this, whatever lengths it claims.
const LARGEST_ALLOCATION: usize = 16 * 1024 * 1024;

/// Why a message can't be read, or a schema not used.
#[derive(Debug, thiserror::Error)]
pub enum WireError {
    /// The message starts with neither header.
    #[error("the message starts with neither the single-object nor the Confluent header")]
    NoHeader,
    /// The header names a schema that this build does not know.
    #[error(
        "the message was written with schema {0:016x} of {1}, which this version does not know; upgrade the reader"
    )]
    UnknownFingerprint(u64, &'static str),
    /// The message is in Confluent's format but no registry is configured.
    #[error("the message names schema id {0} of a registry, but no registry is configured (--schema-registry)")]
    NoRegistry(u32),
    /// The registry does not answer, or not with a schema.
    #[error(transparent)]
    Registry(#[from] RegistryError),
    /// A schema has no fingerprint.
    #[error("the canonical form of a schema is not a schema: {0}")]
    Canonical(String),
    /// The body can't be resolved into the current version.
    #[error("the message cannot be resolved into the current version of {0}: {1}")]
    Resolve(&'static str, String),
    /// A schema file of this crate is not a schema.
    #[error("version {1} of {0} is not a schema: {2}")]
    Schema(&'static str, usize, String),
    /// The body is not such a record.
    #[error(transparent)]
    Decode(#[from] DecodeError),
}

impl WireError {
    /// True where the fault is not the message's, so that the same message may be readable later.
    #[must_use]
    pub fn is_transient(&self) -> bool {
        matches!(self, Self::Registry(error) if error.is_transient())
    }
}

/// Parses all versions of a record's schema, oldest first.
///
/// # Errors
/// Where a file is not a schema.
pub fn parse_versions<R: Record>() -> Result<Vec<Schema>, WireError> {
    let parse = |(index, json): (usize, &&str)| {
        Schema::parse_str(json).map_err(|error| WireError::Schema(R::NAME, index + 1, error.to_string()))
    };
    R::VERSIONS.iter().enumerate().map(parse).collect()
}

/// A schema's 64-bit Rabin fingerprint, the eight bytes as they stand in a single-object header.
///
/// # Errors
/// Where the canonical form is not a schema.
pub fn fingerprint(schema: &Schema) -> Result<[u8; 8], WireError> {
    let canonical = canonical_form(schema);
    let plain = Schema::parse_str(&canonical).map_err(|error| WireError::Canonical(error.to_string()))?;
    let mut bytes = [0; 8];
    bytes.copy_from_slice(&plain.fingerprint::<Rabin>().bytes);
    Ok(bytes)
}

/// A schema's Parsing Canonical Form (Avro 1.12). apache-avro 0.21 leaves `{"type":"long"}` where a logical type was
/// stripped; the form's first rule wants `"long"`, and readers in other languages find no other fingerprint.
#[must_use]
pub fn canonical_form(schema: &Schema) -> String {
    let form = schema.canonical_form();
    let collapse = |form: String, name: &str| form.replace(&format!("{{\"type\":\"{name}\"}}"), &format!("\"{name}\""));
    ["null", "boolean", "int", "long", "float", "double", "bytes", "string"].into_iter().fold(form, collapse)
}

fn newest<R: Record>(versions: &[Schema]) -> Result<&Schema, WireError> {
    versions.last().ok_or_else(|| WireError::Schema(R::NAME, 0, "no version is listed".to_owned()))
}

/// Writes records of one kind: the header, then the body.
#[derive(Debug, Clone)]
pub struct Writer {
    header: Vec<u8>,
}

impl Writer {
    /// Writes single-object encoding.
    ///
    /// # Errors
    /// Where a schema file is not a schema.
    pub fn single_object<R: Record>() -> Result<Self, WireError> {
        let versions = parse_versions::<R>()?;
        let mut header = SINGLE_OBJECT.to_vec();
        header.extend_from_slice(&fingerprint(newest::<R>(&versions)?)?);
        Ok(Self { header })
    }

    /// Writes for `topic`: Confluent's format where there is a registry (the schema is registered under the subject
    /// `TOPIC-value`), else single-object encoding. Blocks while it asks the registry.
    ///
    /// # Errors
    /// Where the registry does not answer or refuses the schema.
    pub fn for_topic<R: Record>(topic: &str, registry: Option<&Registry>) -> Result<Self, WireError> {
        let Some(registry) = registry else { return Self::single_object::<R>() };
        let newest = R::VERSIONS.last().copied().unwrap_or_default();
        let id = registry.register(&format!("{topic}-value"), newest)?;
        let mut header = vec![CONFLUENT];
        header.extend_from_slice(&id.to_be_bytes());
        Ok(Self { header })
    }

    /// Appends one message to `out`.
    #[inline]
    pub fn write(&self, record: &impl Encode, out: &mut Vec<u8>) {
        out.extend_from_slice(&self.header);
        record.encode(out);
    }
}

/// Finds the current version's body in messages of one kind, whatever version and header they were written with.
#[derive(Debug)]
pub struct Reader {
    name: &'static str,
    current: Schema,
    current_fingerprint: [u8; 8],
    older: HashMap<[u8; 8], Arc<Schema>>,
    registry: Option<Registry>,
    /// By registry id. The registry never changes what an id means.
    registered: RwLock<HashMap<u32, Arc<Registered>>>,
}

/// A schema of the registry. Its fingerprint is kept: it costs far more than a body.
#[derive(Debug)]
struct Registered {
    schema: Schema,
    fingerprint: [u8; 8],
}

impl Reader {
    /// Reads records of one kind.
    ///
    /// # Errors
    /// Where a schema file is not a schema.
    pub fn new<R: Record>(registry: Option<Registry>) -> Result<Self, WireError> {
        apache_avro::util::max_allocation_bytes(LARGEST_ALLOCATION);
        let versions = parse_versions::<R>()?;
        let current = newest::<R>(&versions)?.clone();
        let known = versions.into_iter().map(|schema| Ok((fingerprint(&schema)?, Arc::new(schema))));
        let older = known.collect::<Result<_, WireError>>()?;
        let current_fingerprint = fingerprint(&current)?;
        Ok(Self { name: R::NAME, current, current_fingerprint, older, registry, registered: RwLock::default() })
    }

    /// The body of `message` in the current version, to be decoded with [`crate::codec::decode_all`]. Borrowed where
    /// it was written in that version. May ask the registry, once an id, and then blocks.
    ///
    /// # Errors
    /// Where the header or the version is unknown, or the body does not fit its schema.
    pub fn body<'a>(&self, message: &'a [u8]) -> Result<Cow<'a, [u8]>, WireError> {
        if let Some((header, body)) = message.split_first_chunk::<10>()
            && header[..2] == SINGLE_OBJECT
        {
            let mut written_with = [0; 8];
            written_with.copy_from_slice(&header[2..]);
            if written_with == self.current_fingerprint {
                return Ok(Cow::Borrowed(body));
            }
            let unknown = || WireError::UnknownFingerprint(u64::from_le_bytes(written_with), self.name);
            return self.resolve(self.older.get(&written_with).ok_or_else(unknown)?, body);
        }
        if let Some((header, body)) = message.split_first_chunk::<5>()
            && header[0] == CONFLUENT
        {
            let id = u32::from_be_bytes([header[1], header[2], header[3], header[4]]);
            let written_with = self.registered(id)?;
            if written_with.fingerprint == self.current_fingerprint {
                return Ok(Cow::Borrowed(body));
            }
            return self.resolve(&written_with.schema, body);
        }
        Err(WireError::NoHeader)
    }

    fn registered(&self, id: u32) -> Result<Arc<Registered>, WireError> {
        let known = self.registered.read().unwrap_or_else(std::sync::PoisonError::into_inner).get(&id).cloned();
        if let Some(registered) = known {
            return Ok(registered);
        }
        let json = self.registry.as_ref().ok_or(WireError::NoRegistry(id))?.schema(id)?;
        let schema = Schema::parse_str(&json).map_err(|error| WireError::Resolve(self.name, error.to_string()))?;
        let fingerprint = fingerprint(&schema)?;
        let registered = Arc::new(Registered { schema, fingerprint });
        self.registered.write().unwrap_or_else(std::sync::PoisonError::into_inner).insert(id, Arc::clone(&registered));
        Ok(registered)
    }

    fn resolve<'a>(&self, written_with: &Schema, mut body: &[u8]) -> Result<Cow<'a, [u8]>, WireError> {
        let failed = |error: apache_avro::Error| WireError::Resolve(self.name, error.to_string());
        let value = apache_avro::from_avro_datum(written_with, &mut body, Some(&self.current)).map_err(failed)?;
        if !body.is_empty() {
            return Err(DecodeError::TrailingBytes(body.len()).into());
        }
        apache_avro::to_avro_datum(&self.current, value).map(Cow::Owned).map_err(failed)
    }
}
