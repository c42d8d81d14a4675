//! Text as it comes: characters only once they are whole, the space before a word where there is one, nothing of a stop
//! string.
//!
//! A token alone has no text: a character may be spread over several, and SentencePiece drops the space of whatever
//! comes first. So a few tokens that are read already are decoded together with the new ones, and what the new ones
//! add is the new text.

use anyhow::Result;
use llama_pro_text::Tokenizer;

/// What an unfinished character decodes to.
const REPLACEMENT: char = '\u{FFFD}';

/// Tokens before the new ones that are decoded along: enough for any character and for the word they stand in.
const BEFORE: usize = 8;

/// The text of one answer.
pub(crate) struct TextStream<'a> {
    tokenizer: &'a Tokenizer,
    stops: &'a [String],
    /// The end of the prompt, then the answer.
    ids: Vec<u32>,
    /// `ids[before..read]` is text that was given; decoding begins at `before`.
    before: usize,
    read: usize,
    /// All text so far, and how much of it was handed out.
    text: String,
    given: usize,
    stopped: bool,
}

impl<'a> TextStream<'a> {
    /// A stream that goes on after `prompt` and ends at the first of `stops`.
    pub(crate) fn new(tokenizer: &'a Tokenizer, prompt: &[u32], stops: &'a [String]) -> Self {
        let ids = prompt[prompt.len().saturating_sub(BEFORE)..].to_vec();
        let read = ids.len();
        Self { tokenizer, stops, ids, before: 0, read, text: String::new(), given: 0, stopped: false }
    }

    /// Takes a token and gives the text that is certain now.
    pub(crate) fn push(&mut self, id: u32) -> Result<&str> {
        // Rows that pad the embedding to a round number have no token and so no text.
        if (id as usize) < self.tokenizer.vocab_size() {
            self.ids.push(id);
        }
        self.decode(false)?;
        Ok(self.hand_out(false))
    }

    /// The rest: what was held back because more might have come.
    pub(crate) fn finish(&mut self) -> Result<&str> {
        self.decode(true)?;
        Ok(self.hand_out(true))
    }

    /// Whether a stop string has come.
    pub(crate) fn stopped(&self) -> bool {
        self.stopped
    }

    /// All text, without the stop string.
    pub(crate) fn text(&self) -> &str {
        &self.text
    }

    fn decode(&mut self, last: bool) -> Result<()> {
        if self.stopped || self.read == self.ids.len() {
            return Ok(());
        }
        let known = self.tokenizer.decode(&self.ids[self.before..self.read])?;
        let all = self.tokenizer.decode(&self.ids[self.before..])?;
        if all.ends_with(REPLACEMENT) && !last {
            return Ok(());
        }
        let common = known
            .char_indices()
            .zip(all.chars())
            .find(|((_, a), b)| a != b)
            .map_or(known.len().min(all.len()), |((at, _), _)| at);
        let from = self.text.len();
        self.text.push_str(&all[common..]);
        (self.before, self.read) = (self.read.max(self.ids.len().saturating_sub(BEFORE)), self.ids.len());
        self.before = self.before.min(self.read.saturating_sub(1));
        // A stop string may have begun before the new text.
        let longest = self.stops.iter().map(String::len).max().unwrap_or(0);
        let mut start = from.saturating_sub(longest);
        while !self.text.is_char_boundary(start) {
            start -= 1;
        }
        let found = self.stops.iter().filter_map(|stop| self.text[start..].find(stop.as_str())).min();
        if let Some(at) = found {
            self.text.truncate(start + at);
            self.stopped = true;
        }
        Ok(())
    }

    /// The text up to where a stop string may have begun.
    fn hand_out(&mut self, last: bool) -> &str {
        let open = |at: usize| self.stops.iter().any(|stop| stop.starts_with(&self.text[at..]));
        let held = match last || self.stopped {
            true => None,
            false => self.text[self.given..].char_indices().map(|(i, _)| self.given + i).find(|&i| open(i)),
        };
        let from = self.given.min(self.text.len());
        self.given = held.unwrap_or(self.text.len());
        &self.text[from..self.given]
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn tokenizer() -> Tokenizer {
        // The embedded model's: bytes are its alphabet, so characters come in pieces.
        let bytes = include_bytes!("../../../../data/base-tiny/tokenizer.json");
        Tokenizer::from_bytes("tokenizer.json".as_ref(), bytes).unwrap()
    }

    /// Pushes ids one by one; the pieces and the whole.
    fn stream(
        tokenizer: &Tokenizer,
        prompt: &str,
        ids: &[u32],
        stops: &[String],
    ) -> (Vec<String>, String, bool) {
        let prompt = tokenizer.encode(prompt).unwrap();
        let mut stream = TextStream::new(tokenizer, &prompt, stops);
        let mut pieces = Vec::new();
        for &id in ids {
            pieces.push(stream.push(id).unwrap().to_owned());
            if stream.stopped() {
                break;
            }
        }
        pieces.push(stream.finish().unwrap().to_owned());
        (pieces, stream.text().to_owned(), stream.stopped())
    }

    #[test]
    fn pieces_are_whole_characters_and_make_the_text() {
        let tokenizer = tokenizer();
        let text = " na\u{ef}ve \u{65e5}\u{672c}\u{8a9e} \u{1f980}\u{1f980} x\n\t end \u{e9}";
        let ids = tokenizer.encode(text).unwrap();
        let (pieces, whole, _) = stream(&tokenizer, "before", &ids, &[]);
        assert_eq!((pieces.concat().as_str(), whole.as_str()), (text, text));
        assert!(pieces.iter().all(|p| !p.contains(REPLACEMENT)), "{pieces:?}");
        assert!(pieces.iter().any(String::is_empty), "some character takes several tokens");
        // Cut inside the crab: what there is of it comes at the end and not before.
        let crab = tokenizer.encode("a\u{1f980}").unwrap();
        let (pieces, whole, _) = stream(&tokenizer, "x", &crab[..crab.len() - 1], &[]);
        assert!(whole.starts_with('a') && whole.ends_with(REPLACEMENT), "{whole:?}");
        assert_eq!(pieces[0], "a");
    }

    #[test]
    fn a_stop_string_ends_the_text_and_none_of_it_is_shown() {
        let tokenizer = tokenizer();
        let ids = tokenizer.encode("one two\n\nthree STOP four").unwrap();
        for stop in ["\n\n", "three STOP", "STOP", "o\n"] {
            let expected = "one two\n\nthree STOP four".split(stop).next().unwrap();
            let (pieces, whole, stopped) = stream(&tokenizer, "p", &ids, &[stop.to_owned()]);
            assert!(stopped && whole == expected && pieces.concat() == expected, "{stop:?}: {pieces:?}");
        }
        // A beginning that does not go on is handed out after all.
        let (pieces, whole, stopped) = stream(&tokenizer, "p", &ids, &["four and more".to_owned()]);
        assert_eq!((pieces.concat(), stopped), (whole.clone(), false));
        assert!(whole.ends_with(" four"));
        assert!(pieces.last().unwrap().ends_with("four"), "held back until the end: {pieces:?}");
    }
}
