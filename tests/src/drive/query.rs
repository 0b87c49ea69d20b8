//! The search terms of a listing: the `q` parameter, as far as the emulator has the properties.

use super::{answer::Failure, state::File};

/// A parsed `q`.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Query {
    All,
    And(Box<Query>, Box<Query>),
    Or(Box<Query>, Box<Query>),
    Not(Box<Query>),
    Name(Test),
    MimeType(Test),
    Trashed(bool),
    InParent(String),
}

/// A test of a text.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Test {
    Is(String),
    IsNot(String),
    /// For a name: some word of it begins so.
    Contains(String),
}

impl Query {
    /// # Errors
    /// 400 for what is no query, 501 for a property that the emulator does not search.
    pub(super) fn parse(text: &str) -> Result<Self, Failure> {
        let mut words = words(text)?;
        words.reverse();
        let query = either(&mut words)?;
        if words.is_empty() { Ok(query) } else { Err(invalid()) }
    }

    pub(super) fn holds(&self, file: &File) -> bool {
        match self {
            Self::All => true,
            Self::And(one, other) => one.holds(file) && other.holds(file),
            Self::Or(one, other) => one.holds(file) || other.holds(file),
            Self::Not(query) => !query.holds(file),
            Self::Name(test) => test.holds(&file.name),
            Self::MimeType(test) => test.holds(&file.mime_type),
            Self::Trashed(trashed) => file.trashed == *trashed,
            Self::InParent(parent) => file.parent() == parent,
        }
    }
}

impl Test {
    fn holds(&self, text: &str) -> bool {
        match self {
            Self::Is(wanted) => text == wanted,
            Self::IsNot(wanted) => text != wanted,
            Self::Contains(wanted) => text.split_whitespace().any(|word| word.starts_with(wanted.as_str())),
        }
    }
}

fn invalid() -> Failure {
    Failure::value("q")
}

#[derive(Debug, PartialEq, Eq)]
enum Word {
    /// A name, an operator or a bracket.
    Plain(String),
    Text(String),
}

fn words(text: &str) -> Result<Vec<Word>, Failure> {
    let mut words = Vec::new();
    let mut rest = text.chars().peekable();
    while let Some(first) = rest.next() {
        let word = match first {
            c if c.is_whitespace() => continue,
            '\'' => {
                let mut value = String::new();
                loop {
                    match rest.next().ok_or_else(invalid)? {
                        '\'' => break Word::Text(value),
                        '\\' => value.push(rest.next().filter(|c| "'\\".contains(*c)).ok_or_else(invalid)?),
                        other => value.push(other),
                    }
                }
            }
            '(' | ')' | '=' => Word::Plain(first.into()),
            '!' if rest.next_if_eq(&'=').is_some() => Word::Plain("!=".to_owned()),
            c if c.is_ascii_alphanumeric() => {
                let mut name = String::from(c);
                while let Some(c) = rest.next_if(char::is_ascii_alphanumeric) {
                    name.push(c);
                }
                Word::Plain(name)
            }
            _ => return Err(invalid()),
        };
        words.push(word);
    }
    Ok(words)
}

fn takes(words: &mut Vec<Word>, plain: &str) -> bool {
    words.pop_if(|word| matches!(word, Word::Plain(text) if text == plain)).is_some()
}

fn either(words: &mut Vec<Word>) -> Result<Query, Failure> {
    let mut query = both(words)?;
    while takes(words, "or") {
        query = Query::Or(Box::new(query), Box::new(both(words)?));
    }
    Ok(query)
}

fn both(words: &mut Vec<Word>) -> Result<Query, Failure> {
    let mut query = term(words)?;
    while takes(words, "and") {
        query = Query::And(Box::new(query), Box::new(term(words)?));
    }
    Ok(query)
}

fn term(words: &mut Vec<Word>) -> Result<Query, Failure> {
    if takes(words, "not") {
        return Ok(Query::Not(Box::new(term(words)?)));
    }
    if takes(words, "(") {
        let query = either(words)?;
        return if takes(words, ")") { Ok(query) } else { Err(invalid()) };
    }
    match words.pop().ok_or_else(invalid)? {
        Word::Text(parent) if takes(words, "in") && takes(words, "parents") => Ok(Query::InParent(parent)),
        Word::Text(_) => Err(invalid()),
        Word::Plain(property) => match property.as_str() {
            "trashed" => trashed(words),
            "name" => test(words).map(Query::Name),
            "mimeType" => test(words).map(Query::MimeType),
            "fullText" | "modifiedTime" | "createdTime" | "viewedByMeTime" | "starred" | "owners" | "writers"
            | "readers" | "sharedWithMe" | "properties" | "appProperties" | "visibility" => {
                Err(Failure::not_here(&format!("searching by {property}")))
            }
            _ => Err(invalid()),
        },
    }
}

fn trashed(words: &mut Vec<Word>) -> Result<Query, Failure> {
    let same = takes(words, "=");
    if !same && !takes(words, "!=") {
        return Err(invalid());
    }
    let value = takes(words, "true");
    if value || takes(words, "false") { Ok(Query::Trashed(value == same)) } else { Err(invalid()) }
}

fn test(words: &mut Vec<Word>) -> Result<Test, Failure> {
    let Some(Word::Plain(operator)) = words.pop() else { return Err(invalid()) };
    let Some(Word::Text(text)) = words.pop() else { return Err(invalid()) };
    match operator.as_str() {
        "=" => Ok(Test::Is(text)),
        "!=" => Ok(Test::IsNot(text)),
        "contains" => Ok(Test::Contains(text)),
        _ => Err(invalid()),
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;
    use crate::drive::state::Space;

    fn found(q: &str, name: &str, trashed: bool) -> bool {
        let mut file = File::new("1".to_owned(), "alice", "p", Space::AppData, name);
        file.trashed = trashed;
        Query::parse(q).unwrap().holds(&file)
    }

    #[test]
    fn terms_mean_what_google_says() {
        assert!(found("name = 'a' and trashed = false", "a", false));
        assert!(!found("name = 'a' and trashed=false", "a", true));
        assert!(!found("name = 'a' and trashed = false", "b", false));
        assert!(found("name = 'a' or trashed != false", "b", true));
        assert!(found("not (name = 'a' or name = 'b')", "c", false));
        assert!(found("name contains 'hk'", "hk_1", false));
        assert!(!found("name contains '_1'", "hk_1", false));
        assert!(found(r"name = 'it\'s \\'", r"it's \", false));
        assert!(found("'appDataFolder' in parents", "a", false));
        assert!(!found("'root' in parents", "a", false));
    }

    #[test]
    fn what_is_no_query_is_refused() {
        for q in [
            "",
            "name",
            "name =",
            "name = a",
            "name = 'a",
            "trashed = 1",
            "title = 'a'",
            "name = 'a' and",
            "(name = 'a'",
        ] {
            assert_eq!(Query::parse(q).unwrap_err().status, 400, "{q:?}");
        }
        assert_eq!(Query::parse("appProperties has 'x'").unwrap_err().status, 501);
    }
}
