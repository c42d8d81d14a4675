//! What it takes to train a model of a given configuration: bytes of memory and floating-point operations, known before
//! anything is loaded.
//!
//! The counts follow what this project's training path keeps (crates/model), with the new blocks or everything trained:
//! - below the lowest trained block nothing is kept for a backward pass, and there is none;
//! - a frozen block above it keeps what its norms, attention and SwiGLU need: `2 D + 2 Q + 2 K + 2 I` numbers a token
//!   (D hidden, Q and K the widths of the query and the key heads, I the feed-forward width; plain attention repeats keys and
//!   values to Q);
//! - a trained block also keeps the inputs of its matrices, `2 D + I` more;
//! - a recomputed block keeps its input, `D`, and what it needs otherwise exists for one block at a time.

use std::fmt;

use crate::LlamaConfig;

/// Places of a forward pass on a CPU, or one row where a row has more. Fewer are slower in bfloat16, up to 9 % at 1,024;
/// docs/performance.md has the measurement.
pub const CPU_PLACES: usize = 2048;

/// Which activations are thrown away in the forward pass and computed again in the backward pass.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub enum Recompute {
    /// None: the fastest.
    #[default]
    None,
    /// Those of the trained blocks.
    NewBlocks,
    /// Those of every block that has a backward pass, frozen ones included.
    AllBlocks,
    /// Of as few blocks as it takes to stay below so many bytes in all.
    Budget(u64),
}

impl Recompute {
    /// What [`Recompute::parse`] takes, for messages.
    pub const EXPECTED: &'static str =
        "expected \"none\", \"new-blocks\", \"all-blocks\" or a limit such as \"24 GiB\"";

    /// Reads `none`, `new-blocks`, `all-blocks` or a number of GiB, `24 GiB`; `None` for anything else.
    pub fn parse(text: &str) -> Option<Self> {
        match text {
            "none" => Some(Self::None),
            "new-blocks" => Some(Self::NewBlocks),
            "all-blocks" => Some(Self::AllBlocks),
            _ => {
                let gib: f64 = text.strip_suffix("GiB")?.trim().parse().ok()?;
                (gib.is_finite() && gib > 0.0 && gib < 1e9).then_some(Self::Budget((gib * GIB) as u64))
            }
        }
    }
}

impl fmt::Display for Recompute {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::None => f.write_str("none"),
            Self::NewBlocks => f.write_str("new-blocks"),
            Self::AllBlocks => f.write_str("all-blocks"),
            Self::Budget(bytes) => write!(f, "{} GiB", *bytes as f64 / GIB),
        }
    }
}

const GIB: f64 = (1u64 << 30) as f64;

/// Bytes of logits that exist at once on the CPU, where the head works through its rows in chunks.
pub const LOGITS_CHUNK: u64 = 16 << 20;

/// Which parts of a model are trained.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Trained {
    /// The embedding (with a tied head: the head too).
    pub embedding: bool,
    /// Each block.
    pub blocks: Vec<bool>,
    /// The final norm.
    pub norm: bool,
    /// The head.
    pub head: bool,
    /// Weights of low-rank adapters, where they are trained in place of the weights of `blocks`.
    pub adapters: Option<u64>,
}

impl Trained {
    /// These blocks and nothing else.
    pub fn blocks(config: &LlamaConfig, trained: &[usize]) -> Self {
        let blocks = (0..config.num_hidden_layers).map(|i| trained.contains(&i)).collect();
        Self { embedding: false, blocks, norm: false, head: false, adapters: None }
    }

    /// Everything.
    pub fn all(config: &LlamaConfig) -> Self {
        let blocks = vec![true; config.num_hidden_layers];
        Self { embedding: true, blocks, norm: true, head: true, adapters: None }
    }

    /// The first block that needs a backward pass.
    pub fn lowest(&self) -> usize {
        let first = self.blocks.iter().position(|&t| t).unwrap_or(self.blocks.len());
        if self.embedding { 0 } else { first }
    }
}

/// What a training step works on, and how it is computed. [`Step::new`] is one forward pass in the kernels of the CPU.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Step {
    /// Rows of a forward pass.
    pub rows: u64,
    /// Tokens of a row.
    pub length: u64,
    /// Bytes of a weight and of an activation: 4 for float32, 2 for bfloat16.
    pub width: u64,
    /// Whether several forward passes make a step: below float32 there are float32 sums of gradients then.
    pub accumulates: bool,
    /// Bytes of AdamW's two moments of [`Step::BLOCK`] trained weights together.
    pub moments: u64,
    /// Whether a checkpoint may be on its way to the disk from a copy in the same memory: on the CPU, in the background.
    pub snapshot: bool,
    /// Whether losses and optimizer steps are computed in place, in the kernels of the CPU. Elsewhere they take float32
    /// copies of a chunk.
    pub kernels: bool,
    /// Whether attention is libtorch's plain one, which repeats keys and values for each query head.
    pub repeats_keys: bool,
    /// Numbers of the dense masks of attention.
    pub masks: u64,
    /// Rows of logits that the head works on at once; 0 for [`chunk_rows`].
    pub chunk: u64,
    /// Whether there is a KL term: a second chunk of logits.
    pub kl: bool,
    /// Bytes of a base of its own for the KL term, where the new blocks cannot be skipped.
    pub reference: u64,
}

impl Step {
    /// Weights whose moments share a scale in 8 bits.
    pub const BLOCK: u64 = 256;
    /// Both moments in float32.
    pub const MOMENTS_F32: u64 = 8 * Self::BLOCK;
    /// Both in 8 bits, with a float32 scale each.
    pub const MOMENTS_8BIT: u64 = 2 * Self::BLOCK + 8;

    /// One forward pass in the kernels of the CPU, float32 moments, no KL term, no checkpoint under way.
    pub fn new(rows: u64, length: u64, width: u64) -> Self {
        Self {
            rows,
            length,
            width,
            accumulates: false,
            moments: Self::MOMENTS_F32,
            snapshot: false,
            kernels: true,
            repeats_keys: false,
            masks: 0,
            chunk: 0,
            kl: false,
            reference: 0,
        }
    }

    /// Bytes at the head for each logit of a chunk.
    fn logit_bytes(&self) -> u64 {
        // Without kernels the log-softmax and its exponential exist in float32, of the base and of the model.
        match (self.kernels, self.kl) {
            (true, false) => self.width,
            (true, true) => 2 * self.width,
            (false, false) => self.width + 8,
            (false, true) => 2 * self.width + 24,
        }
    }
}

/// Bytes, by what they are for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct MemoryPlan {
    /// Every weight, in the dtype that is computed in, and a base of its own for the KL term.
    pub weights: u64,
    /// Gradients of the trained weights, and where several passes make a step in bfloat16 their float32 sums.
    pub gradients: u64,
    /// AdamW's two moments, and below float32 the master copies.
    pub optimizer: u64,
    /// The copy of the trained state that a checkpoint in the background is written from.
    pub snapshot: u64,
    /// What each block keeps for its backward pass.
    pub kept: Vec<u64>,
    /// Which blocks are computed again.
    pub recomputed: Vec<bool>,
    /// What exists beside them while the largest block is at work in the backward pass.
    pub working: u64,
    /// What exists beside them at the head: the logits of one chunk, hidden states and their gradient, and the gradient of
    /// a trained head before it is added up.
    pub logits: u64,
    /// Everything that depends on the batch, at the moment when it is most, less the gradients that are not there yet then.
    pub activations: u64,
}

impl MemoryPlan {
    /// Plans a step. A budget that cannot be kept gives the smallest plan there is: compare [`MemoryPlan::total`].
    pub fn new(config: &LlamaConfig, trained: &Trained, step: Step, recompute: Recompute) -> Self {
        let lowest = trained.lowest();
        let n = config.num_hidden_layers;
        let mut plan = Self::fixed(config, trained, step);
        plan.recomputed = (0..n)
            .map(|i| match recompute {
                Recompute::AllBlocks => i >= lowest,
                Recompute::NewBlocks => trained.blocks[i],
                Recompute::None | Recompute::Budget(_) => false,
            })
            .collect();
        plan.keep(config, trained, step);
        if let Recompute::Budget(limit) = recompute {
            // Trained blocks hold the most; among equals the lowest is used last in the backward pass.
            let order =
                (lowest..n).filter(|&i| trained.blocks[i]).chain((lowest..n).filter(|&i| !trained.blocks[i]));
            for i in order {
                if plan.total() <= limit {
                    break;
                }
                plan.recomputed[i] = true;
                plan.keep(config, trained, step);
            }
        }
        plan
    }

    /// The sum.
    pub fn total(&self) -> u64 {
        self.weights + self.gradients + self.optimizer + self.snapshot + self.activations
    }

    fn fixed(config: &LlamaConfig, trained: &Trained, step: Step) -> Self {
        let (all, learned) = counts(config, trained);
        let (d, v) = (config.hidden_size as u64, config.vocab_size as u64);
        let tokens = step.rows * step.length;
        let chunk = if step.chunk > 0 { step.chunk } else { chunk_rows(v, step.width) }.min(tokens);
        let narrow = step.width < 4;
        let head = if config.tie_word_embeddings { trained.embedding } else { trained.head };
        Self {
            weights: all * step.width + step.reference,
            gradients: learned * if narrow && step.accumulates { 4 + step.width } else { step.width },
            optimizer: learned * step.moments / Step::BLOCK + if narrow { 4 * learned } else { 0 },
            // The float32 masters, and the moments as they are kept.
            snapshot: if step.snapshot { learned * 4 + learned * step.moments / Step::BLOCK } else { 0 },
            kept: Vec::new(),
            recomputed: Vec::new(),
            working: 0,
            // The residual stream, its norm, the rows of it that have targets, and their gradient.
            logits: chunk * v * step.logit_bytes()
                + 4 * tokens * d * step.width
                + if head { 4 * v * d } else { 0 },
            activations: 0,
        }
    }

    fn keep(&mut self, config: &LlamaConfig, trained: &Trained, step: Step) {
        let tokens = step.rows * step.length;
        let (d, inner) = (config.hidden_size as u64, config.intermediate_size as u64);
        let lowest = trained.lowest();
        let heads = 4 * tokens * config.num_attention_heads as u64;
        let whole =
            |i: usize| tokens * block_kept(config, trained.blocks[i], step.repeats_keys) * step.width + heads;
        self.kept = (0..config.num_hidden_layers)
            .map(|i| match (i < lowest, self.recomputed[i]) {
                (true, _) => 0,
                (false, true) => tokens * d * step.width,
                (false, false) => whole(i),
            })
            .collect();
        // Below float32 a gradient is let go of after the step, so it exists from its block's backward pass on.
        let width = if step.width < 4 { step.width } else { 0 };
        let absent = |below: usize| {
            let blocks = (0..below).filter(|&i| trained.blocks[i]).count() as u64;
            let embedding = if trained.embedding { config.vocab_size as u64 * d } else { 0 };
            match trained.adapters {
                Some(adapters) => adapters * width,
                None => (blocks * block_parameters(config) + embedding) * width,
            }
        };
        // At the head all is kept; in the backward pass of a block, what lies above it is gone.
        let most_kept = self.kept.iter().sum::<u64>() + self.logits;
        let mut most = most_kept.saturating_sub(absent(config.num_hidden_layers));
        let mut below = 0;
        self.working = 0;
        for i in lowest..config.num_hidden_layers {
            below += self.kept[i];
            // The gradients of SwiGLU's output (a trained block has let go of that output by then), of its two inputs and
            // of the residual stream, which is there twice.
            let gradients = tokens * (if trained.blocks[i] { 2 } else { 3 } * inner + 2 * d) * step.width;
            let working = gradients + if self.recomputed[i] { whole(i) } else { 0 };
            self.working = self.working.max(working);
            most = most.max((below + working).saturating_sub(absent(i)));
        }
        // The stream that enters the lowest block stays for the base's path.
        self.activations = most + (tokens * d + step.masks) * step.width;
    }
}

/// Rows of logits that the head works on at once.
pub fn chunk_rows(vocabulary: u64, width: u64) -> u64 {
    (LOGITS_CHUNK / (vocabulary.max(1) * width)).clamp(64, 1 << 20)
}

/// Numbers that a block keeps for each token.
fn block_kept(config: &LlamaConfig, trained: bool, repeats_keys: bool) -> u64 {
    let (d, inner) = (config.hidden_size as u64, config.intermediate_size as u64);
    let (q, k) = widths(config);
    let k = if repeats_keys { q } else { k };
    2 * d + 2 * q + 2 * k + 2 * inner + if trained { 2 * d + inner } else { 0 }
}

fn widths(config: &LlamaConfig) -> (u64, u64) {
    let of = |heads: usize| (heads * config.head_dim) as u64;
    (of(config.num_attention_heads), of(config.num_key_value_heads))
}

/// Weights of a block.
fn block_parameters(config: &LlamaConfig) -> u64 {
    let first = |name: &str| name.starts_with("model.layers.0.");
    let specs = config.parameters().into_iter().filter(|spec| first(&spec.name));
    specs.map(|spec| spec.shape.iter().map(|&d| d as u64).product::<u64>()).sum()
}

/// Parameters in all, and of the trained parts.
fn counts(config: &LlamaConfig, trained: &Trained) -> (u64, u64) {
    let (mut all, mut learned) = (0, 0);
    for spec in config.parameters() {
        let n: u64 = spec.shape.iter().map(|&d| d as u64).product();
        let block = spec
            .name
            .strip_prefix("model.layers.")
            .and_then(|rest| rest.split_once('.')?.0.parse::<usize>().ok());
        let is_trained = match (block, spec.name.as_str()) {
            (Some(i), _) => trained.blocks[i],
            (None, "model.norm.weight") => trained.norm,
            (None, "lm_head.weight") => trained.head,
            (None, _) => trained.embedding,
        };
        all += n;
        learned += if is_trained { n } else { 0 };
    }
    trained.adapters.map_or((all, learned), |adapters| (all + adapters, adapters))
}

/// Floating-point operations of training on one token, the least there is: `2 W` forward everywhere, `2 W` for the
/// gradient of the activations from the lowest trained block up, `2 W` for the gradient of trained weights, and the
/// attention of rows of `length` tokens as PaLM counts it (not halved for causality). What is computed again is not
/// counted.
pub fn flops_per_token(config: &LlamaConfig, trained: &Trained, length: u64) -> f64 {
    let (d, inner, v) =
        (config.hidden_size as f64, config.intermediate_size as f64, config.vocab_size as f64);
    let (q, k) = widths(config);
    let (q, k) = (q as f64, k as f64);
    let matrices = d * (2.0 * q + 2.0 * k) + 3.0 * d * inner;
    let attention = 4.0 * length as f64 * q;
    let lowest = trained.lowest();
    let blocks: f64 = (0..config.num_hidden_layers)
        .map(|i| match (i < lowest, trained.blocks[i]) {
            (true, _) => 2.0 * matrices + attention,
            (false, false) => 4.0 * matrices + 3.0 * attention,
            (false, true) => 6.0 * matrices + 3.0 * attention,
        })
        .sum();
    let head_trained = if config.tie_word_embeddings { trained.embedding } else { trained.head };
    blocks + if head_trained { 6.0 } else { 4.0 } * d * v
}
