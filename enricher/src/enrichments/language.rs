//! The primary language, so that `de`, `de-AT` and `de_CH` are counted as one.

use std::borrow::Cow;

use schemas::EnrichedHit;

use super::{Context, Problem, note};

pub(super) fn add<'a>(hit: &mut EnrichedHit<'a>, _: &Context<'a>) {
    let tag = hit.hit.language.trim();
    // `*` is what Accept-Language says for any language: nothing is known, nothing is wrong.
    if tag.is_empty() || tag == "*" {
        return;
    }
    // Subtags are parted by `-` (RFC 5646), by operating systems also by `_` or `.`; `,` and `;` end an item of
    // Accept-Language.
    let primary = tag.split(['-', '_', '.', ',', ';']).next().unwrap_or_default();
    // ISO 639 codes; longer primary subtags are reserved or registered, and none ever was.
    if matches!(primary.len(), 2 | 3) && primary.bytes().all(|byte| byte.is_ascii_alphabetic()) {
        hit.language = Cow::Owned(primary.to_ascii_lowercase());
    } else {
        note(hit, Problem::LanguageUnreadable);
    }
}

#[cfg(test)]
mod tests {
    use schemas::RawHit;

    use super::super::testing::{Knowledge, problems};
    use super::*;

    fn language(tag: &str) -> (String, Vec<String>) {
        let knowledge = Knowledge::default();
        let raw = RawHit { language: tag.into(), ..RawHit::default() };
        let mut hit = EnrichedHit { hit: raw, ..EnrichedHit::default() };
        add(&mut hit, &knowledge.context());
        let problems = problems(&hit);
        (hit.language.into_owned(), problems)
    }

    #[test]
    fn the_primary_subtag_counts() {
        for (tag, expected) in [
            ("de-AT", "de"),
            ("DE", "de"),
            ("zh-Hant-TW", "zh"),
            ("en_US.UTF-8", "en"),
            ("yue", "yue"),
            ("fr;q=0.9,en;q=0.8", "fr"),
            ("*", ""),
            ("", ""),
        ] {
            assert_eq!(language(tag), (expected.to_owned(), vec![]), "{tag}");
        }
    }

    #[test]
    fn what_is_no_tag_is_a_problem() {
        for tag in ["english", "x", "1a", "ünï", "'; DROP", "-"] {
            assert_eq!(language(tag), (String::new(), vec!["language_unreadable".to_owned()]), "{tag}");
        }
    }
}
