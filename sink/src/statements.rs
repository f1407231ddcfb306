//! Takes a file of SQL apart into statements.

/// What the reader is inside of.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Inside {
    Statement,
    /// Text or a quoted name, up to this character.
    Quotes(char),
    /// A comment to the end of the line.
    Line,
    /// A comment to `*/`.
    Block,
}

/// The statements of a file, which end with semicolons. A semicolon in a text, in a quoted name or in a comment ends
/// nothing. Comments are left out, and so is a last statement that is empty.
#[must_use]
pub fn split(file: &str) -> Vec<String> {
    let mut statements = Vec::new();
    let mut current = String::new();
    let mut inside = Inside::Statement;
    let mut characters = file.chars().peekable();
    while let Some(character) = characters.next() {
        let next = characters.peek().copied();
        match (inside, character) {
            (Inside::Statement, ';') => statements.push(std::mem::take(&mut current)),
            (Inside::Statement, '-') if next == Some('-') => inside = Inside::Line,
            (Inside::Statement, '/') if next == Some('*') => {
                characters.next();
                inside = Inside::Block;
            }
            (Inside::Statement, _) => {
                if matches!(character, '\'' | '"' | '`') {
                    inside = Inside::Quotes(character);
                }
                current.push(character);
            }
            (Inside::Quotes(quote), _) => {
                current.push(character);
                if character == '\\' {
                    current.extend(characters.next());
                } else if character == quote {
                    // A doubled quote closes and opens again, which comes to the same.
                    inside = Inside::Statement;
                }
            }
            (Inside::Line, '\n') => {
                current.push('\n');
                inside = Inside::Statement;
            }
            (Inside::Block, '*') if next == Some('/') => {
                characters.next();
                current.push(' ');
                inside = Inside::Statement;
            }
            (Inside::Line | Inside::Block, _) => {}
        }
    }
    statements.push(current);
    statements.iter().map(|statement| tidy(statement)).filter(|statement| !statement.is_empty()).collect()
}

/// Without blank lines and space at the ends, which comments leave behind.
fn tidy(statement: &str) -> String {
    let lines = statement.lines().map(str::trim_end).filter(|line| !line.is_empty());
    lines.collect::<Vec<_>>().join("\n").trim().to_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn semicolons_end_statements() {
        assert_eq!(split("SELECT 1;\nSELECT 2;\n"), ["SELECT 1", "SELECT 2"]);
        assert_eq!(split("SELECT 1; SELECT 2"), ["SELECT 1", "SELECT 2"]);
        assert!(split("").is_empty() && split(" ;\n; -- nothing\n").is_empty());
    }

    #[test]
    fn but_not_in_texts_names_or_comments() {
        assert_eq!(split("SELECT 'a;b', 'it''s;', 'x\\';y';"), ["SELECT 'a;b', 'it''s;', 'x\\';y'"]);
        assert_eq!(split("SELECT `a;b`, \"c;d\";"), ["SELECT `a;b`, \"c;d\""]);
        assert_eq!(split("-- it's; a comment\nSELECT 1 -- one; only\n  + 2;"), ["SELECT 1\n  + 2"]);
        assert_eq!(split("SELECT /* a; 'b */ 1;"), ["SELECT   1"]);
    }

    #[test]
    fn what_looks_like_a_comment_in_a_text_is_text() {
        assert_eq!(split("SELECT '--', '/*';SELECT 2 - -1"), ["SELECT '--', '/*'", "SELECT 2 - -1"]);
    }
}
