//! What a failed request to ClickHouse means for what was to be stored, told by ClickHouse's exception code.
//!
//! The text of an error is for people: it changes from version to version and is never read for a decision, except for
//! the number at its front ("Code: 252. ..."), which ClickHouse itself defines (`ErrorCodes.cpp`).

use clickhouse::error::Error as ClientError;

use crate::error::ExitCode;

/// What to do about a failed request.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Fault {
    /// Anything unforeseen: send the very same bytes again after a while.
    RetrySame(String),
    /// This server can't, but another replica may: it does not answer, shuts down, or has lost its Keeper. Send the very
    /// same bytes under the same token to another one; where there is only one, as [`Self::RetrySame`].
    OtherReplica(String),
    /// ClickHouse has too much to do: send the same again, but let everything go slower for a while.
    SlowDown(String),
    /// Somebody has to change something first, and no hit is to blame.
    Halt(ExitCode, String),
    /// A row among those that were sent can't be stored.
    RejectRow(u32, String),
}

/// The classes, as one word each, for metrics.
pub const CLASSES: [&str; 5] = ["retry", "other_replica", "slow_down", "halt", "reject_row"];

/// What one server can't do at the moment, for reasons that its replicas need not share.
const ELSEWHERE: &[(u32, &str)] = &[
    (209, "SOCKET_TIMEOUT"),
    (210, "NETWORK_ERROR"),
    (225, "NO_ZOOKEEPER"),
    (236, "ABORTED"),
    (242, "TABLE_IS_READ_ONLY"),
    (244, "UNEXPECTED_ZOOKEEPER_ERROR"),
    (279, "ALL_CONNECTION_TRIES_FAILED"),
    (285, "TOO_FEW_LIVE_REPLICAS"),
    (286, "UNSATISFIED_QUORUM_FOR_PREVIOUS_WRITE"),
    (289, "REPLICA_IS_NOT_IN_QUORUM"),
    (319, "UNKNOWN_STATUS_OF_INSERT"),
    (394, "QUERY_WAS_CANCELLED"),
    (774, "TABLE_IS_PERMANENTLY_READ_ONLY"),
    (999, "KEEPER_EXCEPTION"),
];

/// Busy: too many parts or queries, or not enough memory, at the moment.
const BUSY: &[(u32, &str)] = &[
    (173, "CANNOT_ALLOCATE_MEMORY"),
    (202, "TOO_MANY_SIMULTANEOUS_QUERIES"),
    (241, "MEMORY_LIMIT_EXCEEDED"),
    (243, "NOT_ENOUGH_SPACE"),
    (252, "TOO_MANY_PARTS"),
    (439, "CANNOT_SCHEDULE_TASK"),
];

/// Not let in, or not allowed to.
const REFUSED: &[(u32, &str)] = &[
    (115, "UNKNOWN_SETTING"),
    (164, "READONLY"),
    (192, "UNKNOWN_USER"),
    (193, "WRONG_PASSWORD"),
    (452, "SETTING_CONSTRAINT_VIOLATION"),
    (497, "ACCESS_DENIED"),
    (516, "AUTHENTICATION_FAILED"),
];

/// The database, the table or a view that hangs off it is not as this version needs it.
const UNFIT: &[(u32, &str)] = &[
    (8, "THERE_IS_NO_COLUMN"),
    (10, "NOT_FOUND_COLUMN_IN_BLOCK"),
    (16, "NO_SUCH_COLUMN_IN_TABLE"),
    (20, "NUMBER_OF_COLUMNS_DOESNT_MATCH"),
    (43, "ILLEGAL_TYPE_OF_ARGUMENT"),
    (44, "ILLEGAL_COLUMN"),
    (46, "UNKNOWN_FUNCTION"),
    (47, "UNKNOWN_IDENTIFIER"),
    (48, "NOT_IMPLEMENTED"),
    (50, "UNKNOWN_TYPE"),
    (53, "TYPE_MISMATCH"),
    (60, "UNKNOWN_TABLE"),
    (62, "SYNTAX_ERROR"),
    (73, "UNKNOWN_FORMAT"),
    (81, "UNKNOWN_DATABASE"),
];

/// A value can't be stored: a constraint, a range, or what a view on the table makes of it.
const VALUE: &[(u32, &str)] = &[
    (6, "CANNOT_PARSE_TEXT"),
    (38, "CANNOT_PARSE_DATE"),
    (41, "CANNOT_PARSE_DATETIME"),
    (69, "ARGUMENT_OUT_OF_BOUND"),
    (70, "CANNOT_CONVERT_TYPE"),
    (72, "CANNOT_PARSE_NUMBER"),
    (128, "TOO_LARGE_ARRAY_SIZE"),
    (131, "TOO_LARGE_STRING_SIZE"),
    (153, "ILLEGAL_DIVISION"),
    (248, "INVALID_PARTITION_VALUE"),
    (321, "VALUE_IS_OUT_OF_RANGE_OF_DATA_TYPE"),
    (349, "CANNOT_INSERT_NULL_IN_ORDINARY_COLUMN"),
    (395, "FUNCTION_THROW_IF_VALUE_IS_NON_ZERO"),
    (407, "DECIMAL_OVERFLOW"),
    (469, "VIOLATED_CONSTRAINT"),
];

fn is_among(code: u32, codes: &[(u32, &str)]) -> bool {
    codes.iter().any(|(listed, _)| *listed == code)
}

/// The number at the front of an answer, as in `Code: 252. DB::Exception: ...`.
#[must_use]
pub fn exception_code(answer: &str) -> Option<u32> {
    let digits = answer.trim_start().strip_prefix("Code: ")?;
    let end = digits.find(|character: char| !character.is_ascii_digit()).unwrap_or(digits.len());
    digits[..end].parse().ok()
}

impl Fault {
    /// The class of a failed request.
    #[must_use]
    pub fn of(error: &ClientError) -> Self {
        match error {
            ClientError::BadResponse(answer) => Self::of_answer(answer),
            ClientError::InvalidParams(_) | ClientError::Unsupported(_) => {
                Self::Halt(ExitCode::Refused, format!("{error}; is --clickhouse-url right?"))
            }
            gone @ (ClientError::Network(_) | ClientError::TimedOut) => Self::OtherReplica(with_causes(gone)),
            other => Self::RetrySame(with_causes(other)),
        }
    }

    /// The class of an answer with an error in it.
    #[must_use]
    pub fn of_answer(answer: &str) -> Self {
        let said = answer.to_owned();
        match exception_code(answer) {
            Some(code) if is_among(code, ELSEWHERE) => Self::OtherReplica(said),
            Some(code) if is_among(code, BUSY) => Self::SlowDown(said),
            Some(code) if is_among(code, REFUSED) => Self::Halt(
                ExitCode::Refused,
                format!("{said}; check --clickhouse-user, --clickhouse-password and what the user is allowed to"),
            ),
            Some(code) if is_among(code, UNFIT) => Self::Halt(
                ExitCode::Unfit,
                format!("{said}; run `sink migrate`, and check --clickhouse-database and what hangs off the table"),
            ),
            Some(code) if is_among(code, VALUE) => Self::RejectRow(code, said),
            // A proxy's answer, or a code that says nothing about rows: never a reason to give up a hit.
            _ => Self::RetrySame(said),
        }
    }

    /// The class as one of [`CLASSES`].
    #[must_use]
    pub fn class(&self) -> &'static str {
        match self {
            Self::RetrySame(_) => CLASSES[0],
            Self::OtherReplica(_) => CLASSES[1],
            Self::SlowDown(_) => CLASSES[2],
            Self::Halt(..) => CLASSES[3],
            Self::RejectRow(..) => CLASSES[4],
        }
    }

    /// What was said.
    #[must_use]
    pub fn message(&self) -> &str {
        match self {
            Self::RetrySame(said) | Self::OtherReplica(said) | Self::SlowDown(said) => said,
            Self::Halt(_, said) | Self::RejectRow(_, said) => said,
        }
    }

    /// Every code that has a class of its own, with ClickHouse's name for it.
    #[must_use]
    pub fn known_codes() -> Vec<(u32, &'static str)> {
        [ELSEWHERE, BUSY, REFUSED, UNFIT, VALUE].concat()
    }
}

/// An error with what caused it: "network error" alone helps nobody.
fn with_causes(error: &dyn std::error::Error) -> String {
    let mut text = error.to_string();
    let mut cause = error.source();
    while let Some(error) = cause {
        let said = error.to_string();
        if !text.contains(&said) {
            text = format!("{text}: {said}");
        }
        cause = error.source();
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_code_is_the_number_at_the_front() {
        assert_eq!(exception_code("Code: 252. DB::Exception: Too many parts (Code: 60.)"), Some(252));
        assert_eq!(exception_code("Code: 516"), Some(516));
        for none in ["", "502 Bad Gateway", "DB::Exception: Code: 60.", "Code: x", "Code: 99999999999."] {
            assert_eq!(exception_code(none), None, "{none:?}");
        }
    }

    #[test]
    fn classes_go_by_code_and_never_by_text() {
        let class = |answer: &str| Fault::of_answer(answer).class();
        assert_eq!(class("Code: 252. DB::Exception: Table does not exist, authentication failed"), "slow_down");
        assert_eq!(class("Code: 516. DB::Exception: x"), "halt");
        assert_eq!(class("Code: 469. DB::Exception: x"), "reject_row");
        assert_eq!(class("Code: 1002. DB::Exception: Too many parts"), "retry");
        assert_eq!(class("502 Bad Gateway"), "retry");
        assert!(matches!(Fault::of_answer("Code: 60. x"), Fault::Halt(ExitCode::Unfit, _)));
        assert!(matches!(Fault::of_answer("Code: 193. x"), Fault::Halt(ExitCode::Refused, _)));
        assert_eq!(class("Code: 242. DB::Exception: x"), "other_replica");
        assert_eq!(Fault::of(&ClientError::TimedOut).class(), "other_replica");
    }

    #[test]
    fn no_code_has_two_classes() {
        let mut codes: Vec<_> = Fault::known_codes().into_iter().map(|(code, _)| code).collect();
        codes.sort_unstable();
        let listed = codes.len();
        codes.dedup();
        assert_eq!(codes.len(), listed);
    }
}
