//! Takes a condition apart into words.
//!
//! What is no word of the small language is refused here already: semicolons, comments, quoted names, braces, question
//! marks, control characters.

use super::condition::ConditionError;

/// Longest condition, bytes.
pub const LONGEST: usize = 8 * 1024;

/// A word of a condition.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Word {
    /// A name or a keyword, as written.
    Name(String),
    /// A number, as written: digits, and at most one dot among them.
    Number(String),
    /// What stands between single quotes; a doubled quote is one, a backslash is a backslash.
    Text(String),
    /// One of [`SIGNS`].
    Sign(&'static str),
}

/// The longer ones first, so that they are found first.
const SIGNS: [&str; 17] = ["==", "!=", "<>", "<=", ">=", "=", "<", ">", "(", ")", "[", "]", ",", "+", "-", "*", "/"];

/// The words of a condition, each with the byte at which it begins.
///
/// # Errors
/// Where something is no word.
pub fn words(text: &str) -> Result<Vec<(usize, Word)>, ConditionError> {
    if text.len() > LONGEST {
        return Err(ConditionError::TooLong(text.len()));
    }
    let mut found = Vec::new();
    let mut at = 0;
    while let Some(first) = text[at..].chars().next() {
        if first == ' ' || first == '\n' || first == '\t' {
            at += 1;
            continue;
        }
        let (word, length) = word(&text[at..], first).ok_or(ConditionError::NoWord { at, found: first })?;
        found.push((at, word));
        at += length;
    }
    Ok(found)
}

/// The word that a text begins with, and its length in bytes.
fn word(rest: &str, first: char) -> Option<(Word, usize)> {
    if first == '\'' {
        return quoted(rest);
    }
    if first.is_ascii_alphabetic() || first == '_' {
        let length = length_while(rest, |character| character.is_ascii_alphanumeric() || character == '_');
        return Some((Word::Name(rest[..length].to_owned()), length));
    }
    if first.is_ascii_digit() {
        return number(rest);
    }
    // Neither a comment nor the arrow of a lambda is a pair of signs.
    if ["--", "/*", "->"].iter().any(|other| rest.starts_with(other)) {
        return None;
    }
    SIGNS.iter().find(|sign| rest.starts_with(**sign)).map(|sign| (Word::Sign(sign), sign.len()))
}

fn length_while(rest: &str, belongs: impl Fn(char) -> bool) -> usize {
    rest.find(|character: char| !belongs(character)).unwrap_or(rest.len())
}

fn number(rest: &str) -> Option<(Word, usize)> {
    let length = length_while(rest, |character| character.is_ascii_alphanumeric() || matches!(character, '.' | '_'));
    let (digits, fraction) = rest[..length].split_once('.').unwrap_or((&rest[..length], "0"));
    let is_sound = |part: &str| (1..=18).contains(&part.len()) && part.bytes().all(|byte| byte.is_ascii_digit());
    (is_sound(digits) && is_sound(fraction)).then(|| (Word::Number(rest[..length].to_owned()), length))
}

fn quoted(rest: &str) -> Option<(Word, usize)> {
    let mut content = String::new();
    let mut characters = rest.char_indices().skip(1).peekable();
    while let Some((at, character)) = characters.next() {
        match character {
            '\'' if characters.peek().is_some_and(|(_, next)| *next == '\'') => {
                characters.next();
                content.push('\'');
            }
            '\'' => return Some((Word::Text(content), at + 1)),
            character if character.is_control() => return None,
            character => content.push(character),
        }
    }
    None
}

#[cfg(test)]
mod tests {
    use super::*;

    fn only(text: &str) -> Vec<Word> {
        words(text).unwrap().into_iter().map(|(_, word)| word).collect()
    }

    #[test]
    fn a_condition_is_names_numbers_texts_and_signs() {
        let expected = [
            Word::Name("sessions".to_owned()),
            Word::Sign(">="),
            Word::Number("2.5".to_owned()),
            Word::Name("AND".to_owned()),
            Word::Name("city".to_owned()),
            Word::Sign("!="),
            Word::Text("L'Aquila \\ ; -- é".to_owned()),
        ];
        assert_eq!(only("sessions>=2.5 AND city != 'L''Aquila \\ ; -- é'"), expected);
        assert_eq!(only("''"), [Word::Text(String::new())]);
        assert_eq!(words("  a").unwrap()[0].0, 2);
    }

    #[test]
    fn everything_else_is_refused() {
        let wrong = [
            "a; b",
            "a -- b",
            "a /* b",
            "`a`",
            "\"a\"",
            "{a:String}",
            "a ? b : c",
            "a # b",
            "a || b",
            "'open",
            "'a\0b'",
            "1e9",
            "0x10",
            "1.2.3",
            "1.",
            "1_000",
            "9999999999999999999",
            "a.b",
            "a::Int8",
            "x -> 1",
            "@@version",
            "$1",
            "ä",
        ];
        for text in wrong {
            assert!(words(text).is_err(), "{text:?}");
        }
        assert!(words(&"a ".repeat(LONGEST)).is_err());
    }
}
