//! A conversation: each prompt repeats the one before and what was answered, and only what is new is read.

use super::engine::Engine;
use super::generate::{Active, Batch, Picker, check_prompt, new_tokens};
use super::{Segment, Span, page_up};
use crate::{Llama, Path, Result, Sampling};
use llama_pro_eval::GenerateRequest;

/// Room that a session has at least, in tokens, where the model reads as many.
const ROOM: usize = 4096;

/// Tokens that are read at a time.
const PIECE: usize = 512;

/// One sequence whose keys and values stay between calls.
pub struct Session<'a> {
    model: &'a Llama,
    path: Path,
    engine: Option<Engine<'a>>,
    /// What the cache holds, and for how much it has room.
    read: Vec<i64>,
    room: usize,
}

impl<'a> Session<'a> {
    /// A session with nothing read.
    pub fn new(model: &'a Llama, path: Path) -> Self {
        Self { model, path, engine: None, read: Vec::new(), room: 0 }
    }

    /// Continues `prompt`. What it has in common with the last prompt and its answer is not read again. `done` is asked
    /// after every new token, with all new tokens; `stream` as in [`Sampling::pick`].
    ///
    /// # Errors
    /// A prompt without tokens, longer than the model reads, or with a token outside its vocabulary; an error of
    /// libtorch.
    pub fn generate(
        &mut self,
        prompt: &[i64],
        max_new_tokens: usize,
        sampling: &Sampling,
        stream: u64,
        done: &mut dyn FnMut(&[i64]) -> bool,
    ) -> Result<Vec<i64>> {
        let request = GenerateRequest { prompt: prompt.to_vec(), max_new_tokens };
        check_prompt(self.model, 0, &request.prompt)?;
        let most = new_tokens(self.model, &request);
        if most == 0 {
            return Ok(Vec::new());
        }
        let need = page_up(prompt.len() + most);
        let mut engine = match self.engine.take() {
            Some(engine) if need <= self.room => engine,
            _ => {
                self.room = need.max(ROOM.min(self.model.config().max_position_embeddings));
                self.read.clear();
                Engine::new(self.model, self.path, self.room)?
            }
        };
        // At least the last token is read, since its output is wanted.
        let limit = self.read.len().min(prompt.len() - 1);
        let mut common = self.read[..limit].iter().zip(prompt).take_while(|(a, b)| a == b).count();
        let mut hidden_rd = None;
        while common < prompt.len() {
            let end = prompt.len().min(common + PIECE);
            let segment = Segment {
                tokens: prompt[common..end].to_vec(),
                spans: vec![Span { slot: 0, len: end }],
                wanted: if end == prompt.len() { vec![end - common - 1] } else { vec![] },
            };
            hidden_rd = Some(engine.forward(&[segment])?);
            common = end;
        }
        let Some(hidden_rd) = hidden_rd else { return Ok(Vec::new()) };
        let spans = vec![Span { slot: 0, len: prompt.len() }];
        let active = Active::new(0, spans, request.prompt, most);
        let mut answers = vec![Vec::new()];
        let mut sample = |_, seen: &[i64], place: usize, logits: &mut [f32]| {
            sampling.pick(seen, logits, stream, place as u64)
        };
        let mut picker = if sampling.is_greedy() { Picker::Greedy } else { Picker::Sample(&mut sample) };
        Batch { engine: &mut engine, active: vec![active], hidden_rd }.run(
            &mut picker,
            &mut |_, new| done(new),
            &mut answers,
        )?;
        let answer = answers.remove(0);
        // The last new token has not been read.
        self.read = [prompt, &answer[..answer.len().saturating_sub(1)]].concat();
        self.engine = Some(engine);
        Ok(answer)
    }
}
