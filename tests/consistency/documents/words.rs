//! Words that readers stumble over, and what to write instead.

/// Words that made readers stop, each with what to write instead. Only those that are never right.
const WORDS: [(&str, &str); 21] = [
    ("looked at", "checked, evaluated"),
    ("looks at", "checks"),
    ("mend", "fix, repair"),
    ("mends", "fixes, repairs"),
    ("mended", "fixed, repaired"),
    ("nobody", "no one"),
    ("somebody", "someone"),
    ("anybody", "anyone"),
    ("is none", "does not exist, is invalid"),
    ("meanwhile", "concurrently, during that time"),
    ("nevertheless", "anyway"),
    ("anew", "again"),
    ("by that name", "named X"),
    ("of one's own", "custom"),
    ("ends with 0", "exits with 0"),
    ("ends with 1", "exits with 1"),
    ("over a restart", "across restarts"),
    ("rationed", "rate limiting, rate-limited"),
    ("what clients feel", "API behaviour"),
    ("is it well", "health check"),
    ("as far as answers with whole seconds show", "±1 s"),
];

/// What is wrong with the words of a text.
pub(super) fn word_faults(name: &str, text: &str) -> Vec<String> {
    let mut faults = Vec::new();
    for (number, line) in text.lines().enumerate() {
        let lower = line.to_lowercase();
        let mut fault = |word: &str, instead: &str| {
            faults.push(format!("{name}:{}: \"{word}\" ({instead}): {line}", number + 1));
        };
        for (word, instead) in WORDS {
            let whole = lower.match_indices(word).any(|(at, _)| {
                let inside = |c: Option<char>| c.is_some_and(|c| c.is_alphanumeric() || c == '_');
                let (before, rest) = lower.split_at(at);
                let after = rest.strip_prefix(word).unwrap_or_default();
                !inside(before.chars().next_back()) && !inside(after.chars().next())
            });
            if whole {
                fault(word, instead);
            }
        }
        // Users are told "two codes in a row"; anything else is consecutive.
        if lower.replace("two codes in a row", "").contains("in a row") {
            fault("in a row", "consecutive");
        }
    }
    faults
}
