//! The condition of an audience: a small language that is read and written anew, so that nothing of what somebody typed
//! reaches ClickHouse as it is.
//!
//! A condition is a boolean expression over the columns of one view: comparisons, AND, OR, NOT, IN, BETWEEN, LIKE, ILIKE,
//! IS NULL, arithmetic, the functions of [`FUNCTIONS`], and memberships: `audience('name')`, `lead_score_at_least(20)`,
//! `interest_at_least('Pumps', 3)`. There are no subqueries, no tables, no settings, no other functions, no lambdas, no
//! casts and no comments, as the language has no words for them. What is known is a list; what is on no list is refused.

use std::collections::BTreeSet;

use super::words::{Word, words};

/// Parentheses and the like, in one another.
const DEEPEST: usize = 32;

/// Functions, with the least and the most number of arguments. None of them reads anything but its arguments and the
/// clock, none grows its result beyond them.
const FUNCTIONS: [(&str, usize, usize); 22] = [
    ("abs", 1, 1),
    ("dateDiff", 3, 3),
    ("empty", 1, 1),
    ("endsWith", 2, 2),
    ("greatest", 2, 8),
    ("has", 2, 2),
    ("hasAll", 2, 2),
    ("hasAny", 2, 2),
    ("ifNull", 2, 2),
    ("least", 2, 8),
    ("length", 1, 1),
    ("lower", 1, 1),
    ("mapContains", 2, 2),
    ("notEmpty", 1, 1),
    ("now", 0, 0),
    ("position", 2, 2),
    ("round", 1, 2),
    ("startsWith", 2, 2),
    ("toDate", 1, 1),
    ("today", 0, 0),
    ("upper", 1, 1),
    ("yesterday", 0, 0),
];

const UNITS: [&str; 6] = ["MINUTE", "HOUR", "DAY", "WEEK", "MONTH", "YEAR"];
const KEYWORDS: [&str; 11] = ["AND", "OR", "NOT", "IN", "LIKE", "ILIKE", "BETWEEN", "IS", "NULL", "TRUE", "FALSE"];

/// Why a condition is refused.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum ConditionError {
    /// It has too many bytes.
    #[error("the condition has {0} bytes; make it shorter, or combine audiences with audience('name')")]
    TooLong(usize),
    /// Parentheses are in one another too deep.
    #[error("the condition is nested deeper than {DEEPEST} levels; combine audiences with audience('name')")]
    TooDeep,
    /// A character that begins no word of the language.
    #[error("at byte {at}: {found:?} begins no name, number, text in single quotes, or sign of a condition")]
    NoWord {
        /// Where.
        at: usize,
        /// What stands there.
        found: char,
    },
    /// Another word had to stand there.
    #[error("at byte {at}: {wanted} is missing")]
    Missing {
        /// Where.
        at: usize,
        /// What had to stand there.
        wanted: &'static str,
    },
    /// A name that is no column of the view.
    #[error("at byte {at}: {name} is no column of {view}; there are {known}")]
    NoColumn {
        /// Where.
        at: usize,
        /// The name.
        name: String,
        /// The view.
        view: &'static str,
        /// Its columns.
        known: String,
    },
    /// A function that may not be used.
    #[error("at byte {at}: {name} is no function of conditions; there are {}", function_names())]
    NoFunction {
        /// Where.
        at: usize,
        /// The name.
        name: String,
    },
    /// A function with too few or too many arguments, or with others than it takes.
    #[error("at byte {at}: {name} takes {takes}")]
    Arguments {
        /// Where.
        at: usize,
        /// The function.
        name: String,
        /// What it takes.
        takes: String,
    },
}

fn function_names() -> String {
    let names = FUNCTIONS.iter().map(|(name, ..)| *name);
    names.chain(["audience", "lead_score_at_least", "interest_at_least"]).collect::<Vec<_>>().join(", ")
}

/// What a condition is about.
#[derive(Debug, Clone)]
pub struct Scope<'a> {
    /// Database that the views are in.
    pub database: &'a str,
    /// Key of the site.
    pub site: &'a str,
    /// View that it is about.
    pub view: &'static str,
    /// Column of the view that names a member.
    pub key: &'static str,
    /// Columns of the view.
    pub columns: &'a [String],
}

/// A condition that was read.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Condition {
    /// As SQL, written anew.
    pub sql: String,
    /// Audiences that it asks for.
    pub audiences: BTreeSet<String>,
}

impl Condition {
    /// Reads a condition.
    ///
    /// # Errors
    /// Where it is none, or names what it may not.
    pub fn read(text: &str, scope: &Scope<'_>) -> Result<Self, ConditionError> {
        let end = text.len();
        let mut reader = Reader { words: words(text)?, next: 0, end, depth: 0, scope, audiences: BTreeSet::new() };
        let sql = reader.either()?;
        match reader.words.get(reader.next) {
            None => Ok(Self { sql, audiences: reader.audiences }),
            Some((at, _)) => Err(ConditionError::Missing { at: *at, wanted: "AND, OR or the end" }),
        }
    }
}

/// A text as ClickHouse reads it.
#[must_use]
pub fn quote(text: &str) -> String {
    format!("'{}'", text.replace('\\', "\\\\").replace('\'', "\\'"))
}

struct Reader<'a> {
    words: Vec<(usize, Word)>,
    next: usize,
    end: usize,
    depth: usize,
    scope: &'a Scope<'a>,
    audiences: BTreeSet<String>,
}

/// Each of these reads one thing and gives it as SQL, in parentheses where it has parts.
impl Reader<'_> {
    fn at(&self) -> usize {
        self.words.get(self.next).map_or(self.end, |(at, _)| *at)
    }

    fn missing<T>(&self, wanted: &'static str) -> Result<T, ConditionError> {
        Err(ConditionError::Missing { at: self.at(), wanted })
    }

    fn take_sign(&mut self, wanted: &[&'static str]) -> Option<&'static str> {
        let Some((_, Word::Sign(sign))) = self.words.get(self.next) else { return None };
        let sign = *sign;
        wanted.contains(&sign).then(|| self.next += 1).map(|()| sign)
    }

    fn take_word(&mut self, wanted: &'static str) -> bool {
        let Some((_, Word::Name(name))) = self.words.get(self.next) else { return false };
        let is_it = name.eq_ignore_ascii_case(wanted);
        self.next += usize::from(is_it);
        is_it
    }

    fn sign(&mut self, wanted: &'static str) -> Result<(), ConditionError> {
        self.take_sign(&[wanted]).map_or_else(|| self.missing(wanted), |_| Ok(()))
    }

    fn text(&mut self) -> Result<String, ConditionError> {
        let Some((_, Word::Text(text))) = self.words.get(self.next) else { return self.missing("a text in quotes") };
        let text = text.clone();
        self.next += 1;
        Ok(text)
    }

    fn number(&mut self) -> Result<String, ConditionError> {
        let minus = self.take_sign(&["-"]).unwrap_or_default();
        let Some((_, Word::Number(number))) = self.words.get(self.next) else { return self.missing("a number") };
        let number = format!("{minus}{number}");
        self.next += 1;
        Ok(number)
    }

    fn either(&mut self) -> Result<String, ConditionError> {
        self.depth += 1;
        if self.depth > DEEPEST {
            return Err(ConditionError::TooDeep);
        }
        let mut sql = self.both()?;
        while self.take_word("OR") {
            sql = format!("({sql} OR {})", self.both()?);
        }
        self.depth -= 1;
        Ok(sql)
    }

    fn both(&mut self) -> Result<String, ConditionError> {
        let mut sql = self.negation()?;
        while self.take_word("AND") {
            sql = format!("({sql} AND {})", self.negation()?);
        }
        Ok(sql)
    }

    fn negation(&mut self) -> Result<String, ConditionError> {
        let mut negations = 0;
        while self.take_word("NOT") {
            negations += 1;
        }
        let sql = self.comparison()?;
        Ok(if negations % 2 == 1 { format!("(NOT {sql})") } else { sql })
    }

    fn comparison(&mut self) -> Result<String, ConditionError> {
        let left = self.sum()?;
        if let Some(sign) = self.take_sign(&["==", "!=", "<>", "<=", ">=", "=", "<", ">"]) {
            return Ok(format!("({left} {sign} {})", self.sum()?));
        }
        if self.take_word("IS") {
            let not = if self.take_word("NOT") { "NOT " } else { "" };
            return if self.take_word("NULL") { Ok(format!("({left} IS {not}NULL)")) } else { self.missing("NULL") };
        }
        let not = if self.take_word("NOT") { "NOT " } else { "" };
        if self.take_word("IN") {
            self.sign("(")?;
            let list = self.literals(")")?;
            return Ok(format!("({left} {not}IN ({list}))"));
        }
        if self.take_word("BETWEEN") {
            let low = self.sum()?;
            if !self.take_word("AND") {
                return self.missing("AND");
            }
            return Ok(format!("({left} {not}BETWEEN {low} AND {})", self.sum()?));
        }
        for like in ["LIKE", "ILIKE"] {
            if self.take_word(like) {
                return Ok(format!("({left} {not}{like} {})", quote(&self.text()?)));
            }
        }
        if not.is_empty() { Ok(left) } else { self.missing("IN, BETWEEN, LIKE or ILIKE") }
    }

    /// Texts and numbers, up to a sign that is taken as well.
    fn literals(&mut self, end: &'static str) -> Result<String, ConditionError> {
        let mut list = Vec::new();
        loop {
            list.push(match self.words.get(self.next) {
                Some((_, Word::Text(_))) => quote(&self.text()?),
                _ => self.number()?,
            });
            if self.take_sign(&[","]).is_none() {
                self.sign(end)?;
                return Ok(list.join(", "));
            }
        }
    }

    fn sum(&mut self) -> Result<String, ConditionError> {
        let mut sql = self.product()?;
        while let Some(sign) = self.take_sign(&["+", "-"]) {
            let right = if self.take_word("INTERVAL") { self.interval()? } else { self.product()? };
            sql = format!("({sql} {sign} {right})");
        }
        Ok(sql)
    }

    fn interval(&mut self) -> Result<String, ConditionError> {
        let Some((_, Word::Number(number))) = self.words.get(self.next) else { return self.missing("a number") };
        let Ok(number) = number.parse::<u16>() else { return self.missing("a whole number up to 65535") };
        self.next += 1;
        let unit = UNITS.into_iter().find(|unit| self.take_word(unit));
        unit.map_or_else(
            || self.missing("MINUTE, HOUR, DAY, WEEK, MONTH or YEAR"),
            |unit| Ok(format!("INTERVAL {number} {unit}")),
        )
    }

    fn product(&mut self) -> Result<String, ConditionError> {
        let mut sql = self.value()?;
        while let Some(sign) = self.take_sign(&["*", "/"]) {
            sql = format!("({sql} {sign} {})", self.value()?);
        }
        Ok(sql)
    }

    fn value(&mut self) -> Result<String, ConditionError> {
        let at = self.at();
        match self.words.get(self.next).map(|(_, word)| word.clone()) {
            Some(Word::Text(text)) => {
                self.next += 1;
                Ok(quote(&text))
            }
            Some(Word::Number(_) | Word::Sign("-")) => self.number(),
            Some(Word::Sign("(")) => {
                self.next += 1;
                let sql = self.either()?;
                self.sign(")")?;
                Ok(sql)
            }
            Some(Word::Sign("[")) => {
                self.next += 1;
                Ok(format!("[{}]", self.literals("]")?))
            }
            Some(Word::Name(name)) => {
                self.next += 1;
                self.named(at, name)
            }
            _ => self.missing("a column, a function, a number or a text"),
        }
    }

    fn named(&mut self, at: usize, name: String) -> Result<String, ConditionError> {
        if self.take_sign(&["("]).is_some() {
            return self.call(at, &name);
        }
        let is = |word: &&str| name.eq_ignore_ascii_case(word);
        match KEYWORDS.iter().find(|word| is(word)) {
            Some(&"TRUE") => return Ok("true".to_owned()),
            Some(&"FALSE") => return Ok("false".to_owned()),
            Some(_) => return Err(ConditionError::Missing { at, wanted: "a column, a function, a number or a text" }),
            None => {}
        }
        if !self.scope.columns.contains(&name) {
            let known = self.scope.columns.join(", ");
            return Err(ConditionError::NoColumn { at, name, view: self.scope.view, known });
        }
        if self.take_sign(&["["]).is_none() {
            return Ok(format!("`{name}`"));
        }
        let key = quote(&self.text()?);
        self.sign("]")?;
        Ok(format!("`{name}`[{key}]"))
    }

    /// After the name and the opening parenthesis.
    fn call(&mut self, at: usize, name: &str) -> Result<String, ConditionError> {
        match name {
            "audience" => return self.audience(),
            "lead_score_at_least" => return self.lead_score(at),
            "interest_at_least" => return self.interest(at),
            _ => {}
        }
        let known = FUNCTIONS.iter().find(|(known, ..)| *known == name);
        let Some((name, least, most)) = known else {
            return Err(ConditionError::NoFunction { at, name: name.to_owned() });
        };
        let mut arguments = Vec::new();
        if self.take_sign(&[")"]).is_none() {
            loop {
                arguments.push(self.either()?);
                if self.take_sign(&[","]).is_none() {
                    self.sign(")")?;
                    break;
                }
            }
        }
        if (*least..=*most).contains(&arguments.len()) {
            return Ok(format!("{name}({})", arguments.join(", ")));
        }
        let takes = if least == most { format!("{least} arguments") } else { format!("{least} to {most} arguments") };
        Err(ConditionError::Arguments { at, name: (*name).to_owned(), takes })
    }

    fn members(&self, view: &str, column: &str, condition: &str) -> String {
        let Scope { database, site, key, .. } = self.scope;
        let site = quote(site);
        format!("(`{key}` IN (SELECT {column} FROM {database}.{view} WHERE site = {site} AND {condition}))")
    }

    fn audience(&mut self) -> Result<String, ConditionError> {
        let name = self.text()?;
        self.sign(")")?;
        let condition = format!("audience = {} AND is_member", quote(&name));
        self.audiences.insert(name);
        Ok(self.members("audience_members", "member", &condition))
    }

    fn lead_score(&mut self, at: usize) -> Result<String, ConditionError> {
        self.of_visitors(at, "lead_score_at_least")?;
        let score = self.number()?;
        self.sign(")")?;
        Ok(self.members("lead_scores", "visitor_id", &format!("score >= {score}")))
    }

    fn interest(&mut self, at: usize) -> Result<String, ConditionError> {
        self.of_visitors(at, "interest_at_least")?;
        let group = quote(&self.text()?);
        self.sign(",")?;
        let score = self.number()?;
        self.sign(")")?;
        Ok(self.members("interests", "visitor_id", &format!("content_group = {group} AND score >= {score}")))
    }

    fn of_visitors(&self, at: usize, name: &str) -> Result<(), ConditionError> {
        if self.scope.key == "visitor_id" {
            return Ok(());
        }
        let takes = "visitors only, and this audience is of others".to_owned();
        Err(ConditionError::Arguments { at, name: name.to_owned(), takes })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(text: &str) -> Result<Condition, ConditionError> {
        let columns = ["visitor_id", "sessions", "city", "last_seen", "is_anonymous", "attributes"].map(str::to_owned);
        let scope =
            Scope { database: "hitmeter", site: "sh'op", view: "visitors", key: "visitor_id", columns: &columns };
        Condition::read(text, &scope)
    }

    fn sql(text: &str) -> String {
        read(text).unwrap_or_else(|error| panic!("{text}: {error}")).sql
    }

    #[test]
    fn what_is_allowed_is_written_anew() {
        for (text, expected) in [
            ("sessions>2", "(`sessions` > 2)"),
            ("sessions > 2 and city = 'Essen' or TRUE", "(((`sessions` > 2) AND (`city` = 'Essen')) OR true)"),
            ("sessions > 2 and (city = 'Essen' or false)", "((`sessions` > 2) AND ((`city` = 'Essen') OR false))"),
            ("not not city = ''", "(`city` = '')"),
            ("NOT is_anonymous", "(NOT `is_anonymous`)"),
            ("city IN ('a', 'b')", "(`city` IN ('a', 'b'))"),
            ("city not like '%\\_''x%'", "(`city` NOT LIKE '%\\\\_\\'x%')"),
            ("sessions BETWEEN 1 AND 2 + 3 * -4", "(`sessions` BETWEEN 1 AND (2 + (3 * -4)))"),
            ("last_seen >= now() - INTERVAL 30 day", "(`last_seen` >= (now() - INTERVAL 30 DAY))"),
            ("city IS NOT NULL", "(`city` IS NOT NULL)"),
            ("attributes['industry'] = 'steel'", "(`attributes`['industry'] = 'steel')"),
            ("hasAny(attributes, ['a', 'b'])", "hasAny(`attributes`, ['a', 'b'])"),
            ("dateDiff('day', last_seen, now()) < 7", "(dateDiff('day', `last_seen`, now()) < 7)"),
        ] {
            assert_eq!(sql(text), expected, "{text}");
        }
    }

    #[test]
    fn memberships_read_this_site_only() {
        let condition = read("audience('hot') AND NOT audience('it''s') AND lead_score_at_least(-2.5)").unwrap();
        assert_eq!(condition.audiences, BTreeSet::from(["hot".to_owned(), "it's".to_owned()]));
        let of = |column: &str, view: &str, rest: &str| {
            format!("(`visitor_id` IN (SELECT {column} FROM hitmeter.{view} WHERE site = 'sh\\'op' AND {rest}))")
        };
        let hot = of("member", "audience_members", "audience = 'hot' AND is_member");
        let its = of("member", "audience_members", "audience = 'it\\'s' AND is_member");
        let score = of("visitor_id", "lead_scores", "score >= -2.5");
        assert_eq!(condition.sql, format!("(({hot} AND (NOT {its})) AND {score})"));
        assert!(sql("interest_at_least('Pumps', 3)").contains("content_group = 'Pumps' AND score >= 3"));
    }

    #[test]
    fn what_is_on_no_list_is_refused() {
        for text in [
            "",
            "sessions >",
            "sessions > 2 sessions",
            "sessions > 2)",
            "(sessions > 2",
            "hits > 2",
            "Sessions > 2",
            "site.sessions > 2",
            "sessions IN (SELECT 1)",
            "(SELECT 1) = 1",
            "SELECT 1",
            "sessions > 2 UNION ALL SELECT 1",
            "sessions > 2 SETTINGS readonly = 0",
            "sessions > 2 FORMAT JSON",
            "sessions > 2 INTO OUTFILE 'x'",
            "url('http://example.com')",
            "file('/etc/passwd') = ''",
            "sleep(3) = 0",
            "getSetting('readonly') = 0",
            "dictGet('a', 'b', 1) = 1",
            "throwIf(1)",
            "LOWER(city) = 'a'",
            "arrayExists(x -> 1, [1])",
            "CAST(city AS Int8) = 1",
            "sessions::String = ''",
            "EXISTS(SELECT 1)",
            "lower() = 'a'",
            "lower(city, city) = 'a'",
            "now(1) > last_seen",
            "city LIKE city",
            "city IN (city)",
            "city IN ()",
            "audience(city)",
            "audience('a', 'b')",
            "lead_score_at_least('1 OR 1')",
            "attributes[city] = ''",
            "last_seen > now() - INTERVAL sessions DAY",
            "last_seen > now() - INTERVAL 1 SECOND",
            "* = 1",
            "COLUMNS('.*') = 1",
            "AND",
            "NOT",
            "NULL = NULL",
            "sessions = 2; DROP TABLE hits",
            "sessions = 2 -- and so on",
            "city = 'a' OR 1=1 /*",
        ] {
            assert!(read(text).is_err(), "{text:?} became {:?}", read(text));
        }
        let deep = format!("{}1 = 1{}", "(".repeat(100), ")".repeat(100));
        assert_eq!(read(&deep), Err(ConditionError::TooDeep));
        let columns = ["company".to_owned()];
        let scope = Scope { database: "hitmeter", site: "shop", view: "companies", key: "company", columns: &columns };
        assert!(Condition::read("lead_score_at_least(1)", &scope).is_err());
    }

    /// A text that ends early, whatever escapes are tried, would show as a word outside of quotes.
    #[test]
    fn no_text_gets_out_of_its_quotes() {
        for text in ["a''b", "\\", "\\''", "'' OR 1 = 1 --", "\\'' OR 1 = 1 --", "x'') UNION ALL SELECT 1 --"] {
            let sql = sql(&format!("city = '{text}'"));
            let inner = sql.strip_prefix("(`city` = '").and_then(|rest| rest.strip_suffix("')")).unwrap();
            let mut characters = inner.chars();
            while let Some(character) = characters.next() {
                assert_ne!(character, '\'', "{sql}");
                if character == '\\' {
                    assert!(matches!(characters.next(), Some('\\' | '\'')), "{sql}");
                }
            }
        }
    }
}
