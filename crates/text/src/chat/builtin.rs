//! Formats by name, for models that bring no template: the paper's (Tulu) and the usual ones. Each marks with
//! `{% generation %}` what the assistant writes, its end-of-turn token included.
//!
//! Formats: Tulu after open-instruct, whose code trained LLaMA Pro-Instruct; Alpaca after stanford_alpaca and MetaMath;
//! Llama-2 and Llama-3 after Meta's model cards; ChatML after OpenAI. Texts here are this project's.

/// Names of the built-in templates.
pub const BUILTIN_TEMPLATES: &[&str] = &["tulu", "alpaca", "chatml", "llama-2", "llama-3", "plain"];

/// A built-in format.
pub(super) struct Format {
    pub(super) source: &'static str,
    /// Tokens that must be single tokens of the vocabulary for the format to mean anything.
    pub(super) control: &'static [&'static str],
}

/// The format of a name.
pub(super) fn find(name: &str) -> Option<Format> {
    let (source, control): (_, &[&str]) = match name {
        "tulu" => (TULU, &[]),
        "alpaca" => (ALPACA, &[]),
        "chatml" => (CHATML, &["<|im_start|>", "<|im_end|>"]),
        "llama-2" => (LLAMA_2, &[]),
        "llama-3" => (LLAMA_3, &["<|start_header_id|>", "<|end_header_id|>", "<|eot_id|>"]),
        "plain" => (PLAIN, &[]),
        _ => return None,
    };
    Some(Format { source, control })
}

/// Markers are plain text. The line end after the end-of-sequence of an inner turn is learned too: in open-instruct
/// the next span that is masked begins after it.
const TULU: &str = r"{{- bos_token if bos_token is defined -}}
{%- for message in messages -%}
    {%- if message.role == 'system' -%}
        {{- '<|system|>\n' ~ message.content | trim ~ '\n' -}}
    {%- elif message.role == 'user' -%}
        {{- '<|user|>\n' ~ message.content | trim ~ '\n' -}}
    {%- elif message.role == 'assistant' -%}
        {{- '<|assistant|>\n' -}}
        {%- generation -%}
            {{- message.content | trim ~ eos_token ~ ('' if loop.last else '\n') -}}
        {%- endgeneration -%}
    {%- else -%}
        {{- raise_exception('tulu has no role ' ~ message.role) -}}
    {%- endif -%}
{%- endfor -%}
{%- if add_generation_prompt -%}
    {{- '<|assistant|>\n' -}}
{%- endif -%}
";

/// The instruction and its input stand apart where a record had both. Like MetaMath, a query of several lines is an
/// instruction and its input only if the record says so.
const ALPACA: &str = r"{{- bos_token if bos_token is defined -}}
{%- for message in messages -%}
    {%- if message.role == 'user' -%}
        {%- if loop.first -%}
            {%- if message.input -%}
                {{- 'Below is an instruction that describes a task, paired with an input that provides further context. ' -}}
            {%- else -%}
                {{- 'Below is an instruction that describes a task. ' -}}
            {%- endif -%}
            {{- 'Write a response that appropriately completes the request.\n\n' -}}
        {%- else -%}
            {{- '\n\n' -}}
        {%- endif -%}
        {{- '### Instruction:\n' ~ (message.instruction if message.instruction is defined else message.content) -}}
        {%- if message.input -%}
            {{- '\n\n### Input:\n' ~ message.input -}}
        {%- endif -%}
        {{- '\n\n### Response:' -}}
    {%- elif message.role == 'assistant' -%}
        {%- generation -%}
            {{- message.content ~ eos_token -}}
        {%- endgeneration -%}
    {%- else -%}
        {{- raise_exception('alpaca has no role ' ~ message.role) -}}
    {%- endif -%}
{%- endfor -%}
";

const CHATML: &str = r"{%- for message in messages -%}
    {{- '<|im_start|>' ~ message.role ~ '\n' -}}
    {%- if message.role == 'assistant' -%}
        {%- generation -%}
            {{- message.content ~ '<|im_end|>' -}}
        {%- endgeneration -%}
    {%- else -%}
        {{- message.content ~ '<|im_end|>' -}}
    {%- endif -%}
    {{- '\n' -}}
{%- endfor -%}
{%- if add_generation_prompt -%}
    {{- '<|im_start|>assistant\n' -}}
{%- endif -%}
";

const LLAMA_2: &str = r"{%- set ns = namespace(system='') -%}
{%- for message in messages -%}
    {%- if message.role == 'system' -%}
        {%- set ns.system = '<<SYS>>\n' ~ message.content | trim ~ '\n<</SYS>>\n\n' -%}
    {%- elif message.role == 'user' -%}
        {{- bos_token ~ '[INST] ' ~ ns.system ~ message.content | trim ~ ' [/INST]' -}}
        {%- set ns.system = '' -%}
    {%- elif message.role == 'assistant' -%}
        {%- generation -%}
            {{- ' ' ~ message.content | trim ~ ' ' ~ eos_token -}}
        {%- endgeneration -%}
    {%- else -%}
        {{- raise_exception('llama-2 has no role ' ~ message.role) -}}
    {%- endif -%}
{%- endfor -%}
";

const LLAMA_3: &str = r"{{- bos_token -}}
{%- for message in messages -%}
    {{- '<|start_header_id|>' ~ message.role ~ '<|end_header_id|>\n\n' -}}
    {%- if message.role == 'assistant' -%}
        {%- generation -%}
            {{- message.content | trim ~ '<|eot_id|>' -}}
        {%- endgeneration -%}
    {%- else -%}
        {{- message.content | trim ~ '<|eot_id|>' -}}
    {%- endif -%}
{%- endfor -%}
{%- if add_generation_prompt -%}
    {{- '<|start_header_id|>assistant<|end_header_id|>\n\n' -}}
{%- endif -%}
";

/// Prompt and completion as they are, a space between them where neither has one (open-instruct's rule).
const PLAIN: &str = r"{{- bos_token if bos_token is defined -}}
{%- for message in messages -%}
    {%- if message.role == 'assistant' -%}
        {%- generation -%}
            {%- set before = messages[loop.index0 - 1].content -%}
            {%- if not (before.endswith((' ', '\n', '\t')) or message.content.startswith((' ', '\n', '\t'))) -%}
                {{- ' ' -}}
            {%- endif -%}
            {{- message.content ~ eos_token -}}
        {%- endgeneration -%}
    {%- else -%}
        {{- message.content -}}
    {%- endif -%}
{%- endfor -%}
";
