//! Searches bytes for secrets in every form in which a program might have let them out.

use std::{
    collections::{BTreeSet, HashMap},
    fs::{self, File},
    io,
    os::unix::fs::FileExt,
};

use base64::{Engine, engine::general_purpose};

/// The secrets to look for.
#[derive(Default)]
pub struct Needles {
    forms: Vec<(String, Vec<u8>)>,
    by_start: HashMap<[u8; 4], Vec<usize>>,
}

impl Needles {
    /// Adds a secret: raw, reversed, in hex of both cases, in base64 of both alphabets at every alignment, and as the
    /// list of numbers that `{:?}` prints.
    pub fn add(&mut self, name: &str, secret: &[u8]) {
        let mut reversed = secret.to_vec();
        reversed.reverse();
        let list: Vec<String> = secret.iter().map(u8::to_string).collect();
        self.form(name, "raw", secret.to_vec());
        self.form(name, "reversed", reversed);
        self.form(name, "hex", hex::encode(secret).into_bytes());
        self.form(name, "HEX", hex::encode_upper(secret).into_bytes());
        self.form(name, "a list", list.join(", ").into_bytes());
        self.form(name, "a short list", list.join(",").into_bytes());
        for shift in 0..3 {
            let shifted = [&vec![0; shift], secret].concat();
            // The characters that hold bits of the secret alone.
            let (from, to) = ((shift * 8).div_ceil(6), shifted.len() * 8 / 6);
            for engine in [&general_purpose::STANDARD, &general_purpose::URL_SAFE] {
                self.form(name, "base64", engine.encode(&shifted).as_bytes()[from..to].to_vec());
            }
        }
    }

    fn form(&mut self, name: &str, form: &str, bytes: Vec<u8>) {
        if let Some(start) = bytes.first_chunk::<4>() {
            self.by_start.entry(*start).or_default().push(self.forms.len());
            self.forms.push((format!("{name} ({form})"), bytes));
        }
    }

    /// The longest form, in bytes.
    fn longest(&self) -> usize {
        self.forms.iter().map(|(_, bytes)| bytes.len()).max().unwrap_or_default()
    }

    /// What is in `haystack`.
    #[must_use]
    pub fn find(&self, haystack: &[u8]) -> BTreeSet<String> {
        let mut seen = vec![false; 1 << 16];
        for start in self.by_start.keys() {
            seen[usize::from(u16::from_le_bytes([start[0], start[1]]))] = true;
        }
        let mut found = BTreeSet::new();
        for at in 0..haystack.len().saturating_sub(3) {
            if !seen[usize::from(u16::from_le_bytes([haystack[at], haystack[at + 1]]))] {
                continue;
            }
            let start = [haystack[at], haystack[at + 1], haystack[at + 2], haystack[at + 3]];
            for form in self.by_start.get(&start).into_iter().flatten() {
                let (name, bytes) = &self.forms[*form];
                if haystack[at..].starts_with(bytes) {
                    found.insert(name.clone());
                }
            }
        }
        found
    }

    /// What is in the memory of a running process, and how many bytes were searched.
    ///
    /// # Errors
    /// When this process may not read the other's memory: that takes root.
    pub fn find_in_memory(&self, pid: u32) -> io::Result<(BTreeSet<String>, u64)> {
        let memory = File::open(format!("/proc/{pid}/mem"))?;
        let (mut found, mut searched) = (BTreeSet::new(), 0);
        for line in fs::read_to_string(format!("/proc/{pid}/maps"))?.lines() {
            let mut words = line.split_whitespace();
            let (Some(range), Some(rights)) = (words.next(), words.next()) else { continue };
            let Some((from, to)) = range.split_once('-') else { continue };
            let (Ok(from), Ok(to)) = (u64::from_str_radix(from, 16), u64::from_str_radix(to, 16)) else { continue };
            // What was never written holds no secret.
            if !rights.starts_with("rw") {
                continue;
            }
            searched += self.find_in_range(&memory, from, to, &mut found);
        }
        Ok((found, searched))
    }

    fn find_in_range(&self, memory: &File, from: u64, to: u64, found: &mut BTreeSet<String>) -> u64 {
        const CHUNK: usize = 1 << 20;
        let (mut at, mut searched, mut buffer) = (from, 0, vec![0; CHUNK + self.longest()]);
        while at < to {
            let length = usize::try_from(to - at).map_or(buffer.len(), |left| left.min(buffer.len()));
            // A page that went away in between has nothing to show.
            if let Ok(read) = memory.read_at(&mut buffer[..length], at) {
                found.append(&mut self.find(&buffer[..read]));
                searched += read as u64;
            }
            at += CHUNK as u64;
        }
        searched
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_secret_is_found_in_every_form_wherever_it_stands() {
        let secret: Vec<u8> = (0_u8..32).map(|number| number.wrapping_mul(7).wrapping_add(200)).collect();
        let mut needles = Needles::default();
        needles.add("it", &secret);
        needles.add("another", &[9; 32]);
        let forms = [
            secret.clone(),
            secret.iter().rev().copied().collect(),
            hex::encode(&secret).into_bytes(),
            hex::encode_upper(&secret).into_bytes(),
            format!("{secret:?}").into_bytes(),
        ];
        let base64 = (0..5).map(|before| {
            let inside = [&vec![1; before], &secret[..], &[5; 4]].concat();
            general_purpose::URL_SAFE_NO_PAD.encode(inside).into_bytes()
        });
        for form in forms.into_iter().chain(base64) {
            let haystack = [b"some text before ".as_slice(), &form, b" and after"].concat();
            let found = needles.find(&haystack);
            assert!(!found.is_empty() && found.iter().all(|name| name.starts_with("it (")), "{found:?}");
        }
        assert!(needles.find(&secret[..31]).is_empty());
    }
}
