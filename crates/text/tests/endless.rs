//! The one template that fuel does not stop: a list that is added to itself. In a process of its own, since the thread that
//! renders it is left behind.

use llama_pro_text::chat::{ChatTemplate, Conversation, Message, SpecialTokens};

#[test]
fn a_list_that_doubles_is_stopped_by_the_clock() {
    let source =
        "{% set ns = namespace(x=[1]) %}{% for i in range(99) %}{% set ns.x = ns.x + ns.x %}{% endfor %}";
    let template = ChatTemplate::new("t", source, SpecialTokens::default()).unwrap();
    let talk = Conversation { messages: vec![Message::new("user", "q")], tools: None };
    let begun = std::time::Instant::now();
    let line = template.render(&talk, false).unwrap_err().to_string();
    assert_eq!(line, "chat template t: works or allocates without end: not done after 10 s");
    assert!(begun.elapsed().as_secs() < 60);
}
