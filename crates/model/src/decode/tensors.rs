//! The cached forward pass in tensor operations: any device, any dtype.

use std::collections::{BTreeMap, BTreeSet};

use llama_pro_checkpoint::RopeScaling;
use tch::{Device, Kind, Tensor};

use super::{Segment, Span};
use crate::block::{Block, rms_norm};
use crate::rope::{self, Angles};
use crate::{Llama, Path};

/// Keys and values of every layer that the path goes through, each `[H_kv, slots, K]`.
pub(crate) struct TensorCache {
    layers: Vec<Option<(Tensor, Tensor)>>,
}

impl TensorCache {
    pub(crate) fn new(model: &Llama, path: Path, slots: usize) -> Self {
        let config = model.config();
        let shape = [config.num_key_value_heads as i64, slots as i64, config.head_dim as i64];
        let make = || Tensor::zeros(shape, (model.kind(), model.device()));
        let used = |i: usize| path == Path::Grown || !model.added()[i];
        Self { layers: (0..model.n_blocks()).map(|i| used(i).then(|| (make(), make()))).collect() }
    }

    pub(crate) fn forward(&mut self, model: &Llama, path: Path, segments: &[Segment]) -> Tensor {
        let device = model.device();
        let ids: Vec<i64> = segments.iter().flat_map(|s| s.tokens.iter().copied()).collect();
        let mut x_btd = model.embed(&Tensor::from_slice(&ids).unsqueeze(0).to_device(device));
        let angles = segment_angles(model, segments);
        let slots: Vec<i64> = segments.iter().flat_map(|s| s.new_slots().map(|slot| slot as i64)).collect();
        let slots_n = Tensor::from_slice(&slots).to_device(device);
        let attention = Attention::new(model, segments);
        for (i, block) in model.blocks.iter().enumerate() {
            if path == Path::Base && model.added()[i] {
                continue;
            }
            let Some((keys, values)) = &mut self.layers[i] else { continue };
            x_btd = block_forward(model, block, &x_btd, &angles, &slots_n, (keys, values), &attention);
        }
        let mut wanted = Vec::new();
        let mut first = 0;
        for segment in segments {
            wanted.extend(segment.wanted.iter().map(|&offset| (first + offset) as i64));
            first += segment.tokens.len();
        }
        let x_rd = x_btd.get(0).index_select(0, &Tensor::from_slice(&wanted).to_device(device));
        model.finish(&x_rd)
    }
}

/// Rotary angles of all new tokens. Dynamic scaling depends on how long the sequence is by now, as in transformers, whose
/// cached keys likewise stay rotated as they were stored.
pub(super) fn segment_angles(model: &Llama, segments: &[Segment]) -> Angles {
    let config = model.config();
    let positions = |list: &[&Segment]| {
        let flat: Vec<i64> =
            list.iter().flat_map(|s| s.start()..s.end()).map(|position| position as i64).collect();
        Tensor::from_slice(&flat).unsqueeze(0).to_device(model.device())
    };
    let longest = segments.iter().map(Segment::end).max().unwrap_or(0);
    match &config.rope.scaling {
        RopeScaling::Dynamic { original_max_position_embeddings: original, .. } if longest > *original => {
            let each = segments
                .iter()
                .map(|s| rope::angles(config, &positions(&[s]), s.end() as i64, model.kind()))
                .collect::<Vec<_>>();
            Angles::concat(&each)
        }
        _ => {
            let all: Vec<&Segment> = segments.iter().collect();
            rope::angles(config, &positions(&all), longest as i64, model.kind())
        }
    }
}

fn block_forward(
    model: &Llama,
    block: &Block,
    x_btd: &Tensor,
    angles: &Angles,
    slots_n: &Tensor,
    (keys_hsk, values_hsk): (&mut Tensor, &mut Tensor),
    attention: &Attention,
) -> Tensor {
    let config = model.config();
    let normal = rms_norm(x_btd, &block.input_layernorm, config.rms_norm_eps);
    let (t, head_dim) = (x_btd.size()[1], config.head_dim as i64);
    let heads = |x: Tensor| x.view([1, t, -1, head_dim]).transpose(1, 2);
    let q_bhtk = angles.rotate(&heads(block.q_proj.forward(&normal)));
    let k_bhtk = angles.rotate(&heads(block.k_proj.forward(&normal)));
    let v_bhtk = heads(block.v_proj.forward(&normal));
    let _ = keys_hsk.index_copy_(1, slots_n, &k_bhtk.get(0));
    let _ = values_hsk.index_copy_(1, slots_n, &v_bhtk.get(0));
    let group = (config.num_attention_heads / config.num_key_value_heads) as i64;
    let mixed = attention.forward(&q_bhtk.get(0), keys_hsk, values_hsk, group, block.window);
    let x_btd = x_btd + block.o_proj.forward(&mixed.unsqueeze(0));
    let normal = rms_norm(&x_btd, &block.post_attention_layernorm, config.rms_norm_eps);
    let gate = block.gate_proj.forward(&normal).silu();
    let mlp = block.down_proj.forward(&(gate * block.up_proj.forward(&normal)));
    x_btd + mlp
}

/// Segments of one length, whose attention is one call: keys are padded to the longest sequence and masked.
struct Group {
    /// New tokens of each.
    tokens: i64,
    rows: i64,
    /// Places of the queries among all new tokens, `[rows * tokens]`.
    queries: Tensor,
    /// Slots of the keys, `[rows * longest]`.
    keys: Tensor,
    longest: i64,
    /// By window: additive mask `[rows, 1, tokens, longest]`.
    masks: BTreeMap<Option<usize>, Tensor>,
}

struct Attention {
    groups: Vec<Group>,
    /// Puts the outputs of the groups back into the order of the tokens.
    order: Tensor,
}

impl Attention {
    fn new(model: &Llama, segments: &[Segment]) -> Self {
        let device = model.device();
        let windows: BTreeSet<Option<usize>> = model.config().sliding_window.iter().copied().collect();
        let mut by_length: BTreeMap<usize, Vec<(usize, &Segment)>> = BTreeMap::new();
        let mut first = 0;
        for segment in segments {
            by_length.entry(segment.tokens.len()).or_default().push((first, segment));
            first += segment.tokens.len();
        }
        let mut places = vec![0i64; first];
        let mut next = 0;
        let groups = by_length
            .iter()
            .map(|(&tokens, members)| {
                let queries: Vec<i64> =
                    members.iter().flat_map(|(first, _)| *first..first + tokens).map(|p| p as i64).collect();
                for &place in &queries {
                    places[place as usize] = next;
                    next += 1;
                }
                let members: Vec<&Segment> = members.iter().map(|(_, s)| *s).collect();
                Group::new(model, tokens, &members, Tensor::from_slice(&queries).to_device(device), &windows)
            })
            .collect();
        Self { groups, order: Tensor::from_slice(&places).to_device(device) }
    }

    /// `q_htk` of all new tokens to `[T, H * K]`.
    fn forward(
        &self,
        q_htk: &Tensor,
        keys_hsk: &Tensor,
        values_hsk: &Tensor,
        group: i64,
        window: Option<usize>,
    ) -> Tensor {
        let parts: Vec<Tensor> = self
            .groups
            .iter()
            .map(|g| {
                let take = |x: &Tensor, places: &Tensor, length: i64| {
                    let x = x.index_select(1, places);
                    let (h, k) = (x.size()[0], x.size()[2]);
                    x.view([h, g.rows, length, k]).transpose(0, 1)
                };
                let spread =
                    |x: Tensor| if group == 1 { x } else { x.repeat_interleave_self_int(group, 1, None) };
                let out_rhtk = Tensor::scaled_dot_product_attention(
                    &take(q_htk, &g.queries, g.tokens),
                    &spread(take(keys_hsk, &g.keys, g.longest)),
                    &spread(take(values_hsk, &g.keys, g.longest)),
                    Some(&g.masks[&window]),
                    0.0,
                    false,
                    None,
                    false,
                );
                out_rhtk.transpose(1, 2).reshape([g.rows * g.tokens, -1])
            })
            .collect();
        Tensor::concat(&parts, 0).index_select(0, &self.order)
    }
}

impl Group {
    fn new(
        model: &Llama,
        tokens: usize,
        members: &[&Segment],
        queries: Tensor,
        windows: &BTreeSet<Option<usize>>,
    ) -> Self {
        let (device, kind) = (model.device(), model.kind());
        let longest = members.iter().map(|s| s.end()).max().unwrap_or(0);
        let mut keys = vec![0i64; members.len() * longest];
        for (row, segment) in keys.chunks_exact_mut(longest).zip(members) {
            let slots = segment.spans.iter().flat_map(|&Span { slot, len }| slot..slot + len);
            for (place, slot) in row.iter_mut().zip(slots) {
                *place = slot as i64;
            }
        }
        let starts: Vec<i64> = members.iter().map(|s| s.start() as i64).collect();
        let range = |n: usize| Tensor::arange(n as i64, (Kind::Int64, device));
        let queries_at =
            Tensor::from_slice(&starts).to_device(device).view([-1, 1, 1]) + range(tokens).view([1, -1, 1]);
        let distance = queries_at - range(longest).view([1, 1, -1]); // query minus key
        let masks = windows.iter().map(|&window| {
            let mut hidden = distance.lt(0);
            if let Some(window) = window {
                hidden = hidden.logical_or(&distance.ge(window as i64));
            }
            let hidden = hidden.unsqueeze(1);
            let zeros = Tensor::zeros(hidden.size(), (kind, Device::Cpu)).to_device(device);
            (window, zeros.masked_fill(&hidden, f64::NEG_INFINITY))
        });
        Self {
            tokens: tokens as i64,
            rows: members.len() as i64,
            queries,
            keys: Tensor::from_slice(&keys).to_device(device),
            longest: longest as i64,
            masks: masks.collect(),
        }
    }
}
