//! Links that would undo each other: in a circle, or into one topic. Each is refused by name, and what runs is not harmed.

use super::*;
use crate::support::{shared_pair, until};

fn problems(mirror: &Twinlog) -> String {
    String::from_utf8_lossy(&mirror.run(&["status"]).stdout).into_owned()
}

#[test]
fn a_circle_and_a_second_source_are_refused_by_name() {
    let (here, there) = shared_pair();
    let (topic, other) = (unique("round"), unique("other"));
    for topic in [&topic, &other] {
        here.client().create_topic(topic, 1, &[]).unwrap();
        write(here.client(), topic, 0, orders(0..10), Codec::None);
    }
    let first = twinlog(link(here, there, &[&topic], &[]));
    first.start_ready();
    twins(here, there, &topic).settle(SOON);

    let other_way = twinlog(link(there, here, &[&topic], &[]));
    other_way.start();
    until(SOON, "the circle is named", || {
        let said = problems(&other_way);
        said.contains("circle") && said.contains(first.link()) && said.contains(&topic)
    });

    let rename = format!("naming = {{ rename = {{ {other:?} = {topic:?} }} }}");
    let second = twinlog(link(here, there, &[&other], &[]).line(&rename));
    second.start();
    until(SOON, "the second source is named", || {
        let said = problems(&second);
        said.contains(&format!("fills {topic}")) && said.contains(first.link()) && said.contains(&other)
    });

    write(here.client(), &topic, 0, orders(10..20), Codec::None);
    twins(here, there, &topic).settle(SOON);
    assert_eq!(there.client().bounds(&topic, 0).unwrap(), (0, 20), "nothing but the first link's records");
    assert_eq!(here.client().bounds(&topic, 0).unwrap(), (0, 20), "nothing came back");
}
