//! Secrets come from a prompt or from a file descriptor, never from arguments or the environment.

use std::{
    fs::File,
    io::{BufRead, BufReader, IsTerminal, Read},
};

use zeroize::{Zeroize, Zeroizing};

use crate::error::{Error, Result};

/// No secret is longer.
const MAX_SECRET: u64 = 4096;

/// Where secrets are read from.
pub enum Secrets {
    /// Asked for on the terminal, without echo.
    Prompt,
    /// One per line, in the order in which the command needs them.
    Lines(Box<dyn BufRead + Send>),
}

impl Secrets {
    /// The terminal, or the open file descriptor with this number.
    ///
    /// # Errors
    /// [`Error::NoSecret`] when the descriptor is not open for reading.
    pub fn from_fd(fd: Option<u32>) -> Result<Self> {
        let Some(fd) = fd else { return Ok(Self::Prompt) };
        let file = File::open(format!("/dev/fd/{fd}")).map_err(|_| Error::NoSecret("the file descriptor"))?;
        Ok(Self::Lines(Box::new(BufReader::with_capacity(1024, file))))
    }

    /// The next secret. `what` names it in the prompt and in errors.
    ///
    /// # Errors
    /// [`Error::NoSecret`] when there is none.
    pub fn read(&mut self, what: &'static str) -> Result<Zeroizing<String>> {
        match self {
            Self::Prompt => prompt(what),
            Self::Lines(lines) => line(lines.as_mut(), what),
        }
    }

    /// A new secret, typed twice on a terminal.
    ///
    /// # Errors
    /// [`Error::NoSecret`]; [`Error::Usage`] when the two differ.
    pub fn read_new(&mut self, what: &'static str) -> Result<Zeroizing<String>> {
        let first = self.read(what)?;
        if matches!(self, Self::Prompt) && *prompt("the same again")? != *first {
            return Err(Error::Usage("the two entries differ; nothing was changed".to_owned()));
        }
        Ok(first)
    }
}

fn prompt(what: &'static str) -> Result<Zeroizing<String>> {
    if !std::io::stdin().is_terminal() {
        return Err(Error::NoSecret(what));
    }
    let mut label = what.to_owned();
    if let Some(initial) = label.get_mut(..1) {
        initial.make_ascii_uppercase();
    }
    let typed = rpassword::prompt_password(format!("{label}: ")).map(Zeroizing::new);
    typed.map_err(|_| Error::NoSecret(what))
}

fn line(lines: &mut (dyn BufRead + Send), what: &'static str) -> Result<Zeroizing<String>> {
    let mut text = Zeroizing::new(String::with_capacity(MAX_SECRET as usize));
    let read = lines.take(MAX_SECRET).read_line(&mut text).map_err(|_| Error::NoSecret(what))?;
    if read == 0 || !text.ends_with('\n') && read as u64 == MAX_SECRET {
        text.zeroize();
        return Err(Error::NoSecret(what));
    }
    let kept = text.trim_end_matches(['\r', '\n']).len();
    text.truncate(kept);
    Ok(text)
}

#[cfg(test)]
mod tests {
    use std::io::Cursor;

    use super::*;

    fn lines(text: &'static str) -> Secrets {
        Secrets::Lines(Box::new(Cursor::new(text)))
    }

    #[test]
    fn lines_are_taken_in_order_and_the_last_needs_no_newline() {
        let mut secrets = lines("one\r\ntwo words \n\nlast");
        for expected in ["one", "two words ", "", "last"] {
            assert_eq!(*secrets.read("x").unwrap(), *expected);
        }
        assert!(matches!(secrets.read("the password"), Err(Error::NoSecret("the password"))));
    }

    #[test]
    fn an_endless_line_is_refused() {
        let mut secrets = Secrets::Lines(Box::new(BufReader::new(std::io::repeat(b'x'))));
        assert!(matches!(secrets.read("x"), Err(Error::NoSecret("x"))));
    }
}
