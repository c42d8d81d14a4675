//! LLaMA as a [`LanguageModel`]: log-likelihoods of given tokens, for perplexity and for benchmarks.

use llama_pro_eval::{
    BoxError, ChoiceRequest, ChoiceScore, GenerateRequest, LanguageModel, RowScore, TokenRow,
};
use tch::{Kind, Tensor};

use crate::decode;
use crate::guard::guarded;
use crate::loss::{self, IGNORED};
use crate::{Error, Inputs, Llama, Path, Sampling};

/// Requests that are continued side by side: beyond that a step gets slower in proportion.
const SIDE_BY_SIDE: usize = 32;

/// A model on one of its two paths, ready to be scored.
pub struct Scorer<'a> {
    model: &'a Llama,
    path: Path,
}

impl<'a> Scorer<'a> {
    /// Scores `model` on `path`: grown, or its base with the new blocks skipped.
    pub fn new(model: &'a Llama, path: Path) -> Self {
        Self { model, path }
    }

    fn score_equal(&self, rows: &[&TokenRow]) -> Result<Vec<RowScore>, BoxError> {
        let _guard = tch::no_grad_guard();
        let (b, t) = (rows.len() as i64, rows[0].inputs.len() as i64);
        let device = self.model.device();
        let tensor = |get: &dyn Fn(&TokenRow) -> Vec<i64>| {
            let flat: Vec<i64> = rows.iter().flat_map(|r| get(r)).collect();
            Tensor::from_slice(&flat).view([b, t]).to_device(device)
        };
        let ids = tensor(&|r| r.inputs.clone());
        self.model.check_ids(&ids)?;
        let plain = rows.iter().all(|r| r.segments.last().is_none_or(|&s| s == r.segments[0]));
        let positions = tensor(&|r| r.positions.clone());
        let segments = (!plain).then(|| tensor(&|r| r.segments.iter().map(|&s| i64::from(s)).collect()));
        let inputs = Inputs { ids: &ids, positions: Some(&positions), segments: segments.as_ref() };
        let context = self.model.context(&inputs)?;
        let x_btd = self.model.run(self.model.embed(&ids), 0..self.model.n_blocks(), &context, self.path);
        let hidden_btd = self.model.finish(&x_btd);
        // Row by row, and only what is scored, meets the head: whole-batch logits would be the largest tensor by far.
        rows.iter()
            .enumerate()
            .map(|(i, row)| {
                let targets = Tensor::from_slice(&row.targets).to_device(device);
                let places = targets.not_equal(IGNORED).nonzero().view([-1]);
                if places.numel() == 0 {
                    return Ok(RowScore::default());
                }
                let hidden_nd = hidden_btd.get(i as i64).index_select(0, &places);
                let targets_n = targets.index_select(0, &places);
                self.model.check_ids(&targets_n)?;
                let nats = loss::cross_entropy(&self.model.head(&hidden_nd), &targets_n);
                let sum = nats.sum(Kind::Double).double_value(&[]);
                Ok(RowScore { log_likelihood: -sum, targets: places.numel() })
            })
            .collect()
    }
}

impl LanguageModel for Scorer<'_> {
    /// Rows of one length are scored together; other lengths go one after the other.
    fn score(&mut self, rows: &[TokenRow]) -> Result<Vec<RowScore>, BoxError> {
        let mut scores = vec![RowScore::default(); rows.len()];
        let mut lengths: Vec<usize> = rows.iter().map(|r| r.inputs.len()).filter(|&l| l > 0).collect();
        lengths.sort_unstable();
        lengths.dedup();
        for length in lengths {
            let places: Vec<usize> = (0..rows.len()).filter(|&i| rows[i].inputs.len() == length).collect();
            let same: Vec<&TokenRow> = places.iter().map(|&i| &rows[i]).collect();
            let scored =
                guarded(|line| Box::new(Error::Torch(line)) as BoxError, || self.score_equal(&same))?;
            for (place, score) in places.into_iter().zip(scored) {
                scores[place] = score;
            }
        }
        Ok(scores)
    }

    /// Contexts, and what contexts begin with in common, are computed once for the whole call.
    fn choices(&mut self, requests: &[ChoiceRequest]) -> Result<Vec<Vec<ChoiceScore>>, BoxError> {
        Ok(decode::choices(self.model, self.path, requests)?)
    }

    fn generate(
        &mut self,
        requests: &[GenerateRequest],
        done: &mut dyn FnMut(usize, &[i64]) -> bool,
    ) -> Result<Vec<Vec<i64>>, BoxError> {
        Ok(decode::generate(self.model, self.path, requests, &Sampling::GREEDY, SIDE_BY_SIDE, done)?)
    }

    fn max_row(&self) -> Option<usize> {
        Some(self.model.config().max_position_embeddings)
    }
}
