//! Results of checks go in; deeds and events come out.

use super::*;

fn spec(node: &str, weight: u32) -> ServerSpec {
    ServerSpec {
        name: node.into(),
        address: "172.28.128.4".parse().unwrap(),
        port: 8080,
        mac: [2, 0, 0, 0, 0, 4],
        via: "eth1".into(),
        weight,
        upper: 0,
        lower: 0,
    }
}

fn id(node: &str) -> Id {
    Id::from(&spec(node, 0))
}

/// Service `web` with servers `a` (weight 1) and `b` (weight 3), rise 2, fall 3.
fn web(on_fail: OnFail) -> Servers {
    Servers::new("web", on_fail, (2, 3), &[spec("a", 1), spec("b", 3)])
}

/// Dead servers and why.
fn dead(servers: &Servers) -> Vec<String> {
    let words = |(id, why): (Id, &str)| format!("{}: {why}", id.node);
    servers.dead().map(words).collect()
}

/// Feeds checks of one server, `+` passed and `-` failed, to a director that does what it is told.
/// What happened, in words.
fn feed(servers: &mut Servers, node: &str, results: &str) -> Vec<String> {
    let mut told = vec![];
    for c in results.chars() {
        let result = match c {
            '+' => Ok(()),
            _ => Err("no answer".to_owned()),
        };
        let events = servers.checked(&id(node), result);
        if let Some(deed) = servers.deed(&id(node)) {
            told.push(match &deed {
                Deed::Weight(s, weight) => format!("{} weight {weight}", s.name),
                Deed::Remove(s) => format!("remove {}", s.name),
                Deed::Add(s) => format!("add {} weight {}", s.name, s.weight),
            });
            assert_eq!(servers.done(&id(node), &deed, Ok(())), None);
            assert_eq!(servers.deed(&id(node)), None, "told twice");
        }
        told.extend(events.iter().map(short));
    }
    told
}

fn short(event: &Event) -> String {
    match event {
        Event::ServerDied {
            server,
            why,
            failed,
            ..
        } => format!("{server} died: {failed} x {why}"),
        Event::ServerRevived { server, weight, .. } => format!("{server} revived: {weight}"),
        Event::NoServers { service } => format!("{service} unserved"),
        Event::Served { service } => format!("{service} served"),
        other => format!("{other:?}"),
    }
}

#[test]
fn a_dead_server_gets_weight_0_and_its_own_back() {
    let mut web = web(OnFail::Weight);
    assert_eq!(feed(&mut web, "b", "++--+--"), [""; 0]);
    assert_eq!(
        feed(&mut web, "b", "-"),
        ["b weight 0", "b died: 3 x no answer"]
    );
    assert_eq!(dead(&web), ["b: no answer"]);
    assert_eq!(feed(&mut web, "b", "---+"), [""; 0]);
    assert_eq!(feed(&mut web, "b", "+"), ["b weight 3", "b revived: 3"]);
    assert_eq!(dead(&web), [""; 0]);
}

#[test]
fn on_fail_remove_takes_it_out_and_puts_it_in_again() {
    let mut web = web(OnFail::Remove);
    assert_eq!(
        feed(&mut web, "b", "---"),
        ["remove b", "b died: 3 x no answer"]
    );
    assert_eq!(
        feed(&mut web, "b", "++"),
        ["add b weight 3", "b revived: 3"]
    );
}

#[test]
fn a_service_without_live_servers_says_so_once() {
    let mut web = web(OnFail::Weight);
    feed(&mut web, "a", "---");
    assert_eq!(
        feed(&mut web, "b", "---"),
        ["b weight 0", "b died: 3 x no answer", "web unserved"]
    );
    assert_eq!(web.live(), 0);
    assert_eq!(feed(&mut web, "a", "-----"), [""; 0]);
    assert_eq!(
        feed(&mut web, "a", "++"),
        ["a weight 1", "a revived: 1", "web served"]
    );
    assert_eq!(feed(&mut web, "b", "++"), ["b weight 3", "b revived: 3"]);
}

#[test]
fn a_weight_that_is_changed_meanwhile_is_the_one_that_comes_back() {
    let mut web = web(OnFail::Weight);
    feed(&mut web, "b", "---");
    web.weighed(&id("b"), 5, false);
    // Nobody is told before it lives.
    assert_eq!(feed(&mut web, "b", "-"), [""; 0]);
    assert_eq!(feed(&mut web, "b", "++"), ["b weight 5", "b revived: 5"]);
    // One that lives has it at once, by whoever changed it.
    web.weighed(&id("b"), 7, true);
    assert_eq!(feed(&mut web, "b", "+"), [""; 0]);
    assert_eq!(
        feed(&mut web, "b", "---++"),
        [
            "b weight 0",
            "b died: 3 x no answer",
            "b weight 7",
            "b revived: 7"
        ]
    );
}

#[test]
fn a_drained_server_that_dies_and_lives_stays_drained() {
    let mut web = web(OnFail::Weight);
    web.weighed(&id("b"), 0, true);
    // Its weight is 0 already: the director has nothing to do.
    assert_eq!(feed(&mut web, "b", "---"), ["b died: 3 x no answer"]);
    assert_eq!(feed(&mut web, "b", "++"), ["b revived: 0"]);
    // A drained one is no live server to clients.
    assert_eq!(
        feed(&mut web, "a", "---"),
        ["a weight 0", "a died: 3 x no answer", "web unserved"]
    );
    web.weighed(&id("b"), 1, true);
    assert_eq!(
        web.service_turn().map(|e| short(&e)).as_deref(),
        Some("web served")
    );
}

#[test]
fn a_weight_and_a_death_at_once_end_with_weight_0() {
    let mut web = web(OnFail::Weight);
    for _ in 0..3 {
        web.checked(&id("b"), Err("no answer".into()));
    }
    // The check's deed is on its way when a command tells the director weight 5 after it.
    let deed = web.deed(&id("b")).unwrap();
    web.done(&id("b"), &deed, Ok(()));
    web.weighed(&id("b"), 5, true);
    assert_eq!(feed(&mut web, "b", "-"), ["b weight 0"]);
    // And the other way round: what the deed told is what the director has.
    feed(&mut web, "b", "+");
    web.checked(&id("b"), Ok(()));
    let deed = web.deed(&id("b")).unwrap();
    assert_eq!(deed, Deed::Weight(spec("b", 0), 5));
    web.weighed(&id("b"), 6, false);
    web.done(&id("b"), &deed, Ok(()));
    assert_eq!(feed(&mut web, "b", "+"), ["b weight 6"]);
}

#[test]
fn servers_come_and_go() {
    let mut web = web(OnFail::Weight);
    feed(&mut web, "b", "---");
    web.removed(&id("b"));
    assert_eq!(dead(&web), [""; 0]);
    // A check that was under way.
    assert_eq!(feed(&mut web, "b", "-"), [""; 0]);
    // A new one begins alive, whatever was before.
    web.added(spec("b", 2));
    assert_eq!(dead(&web), [""; 0]);
    assert_eq!(feed(&mut web, "b", "--"), [""; 0]);
    assert_eq!(
        feed(&mut web, "b", "-"),
        ["b weight 0", "b died: 3 x no answer"]
    );
}

#[test]
fn what_the_director_refuses_is_tried_again_and_told_once() {
    let mut web = web(OnFail::Weight);
    for _ in 0..3 {
        web.checked(&id("b"), Err("no answer".into()));
    }
    for n in 0..3 {
        let deed = web.deed(&id("b")).unwrap();
        assert_eq!(deed, Deed::Weight(spec("b", 3), 0));
        let event = web.done(&id("b"), &deed, Err("it is busy".into()));
        let expected = Event::Warning {
            text: "server b:8080 of service web is dead, but its director could not be told: it \
                   is busy; it is tried again with each check"
                .into(),
        };
        assert_eq!(event, (n == 0).then_some(expected));
        assert_eq!(web.checked(&id("b"), Err("no answer".into())), []);
    }
    let deed = web.deed(&id("b")).unwrap();
    assert_eq!(web.done(&id("b"), &deed, Ok(())), None);
    assert_eq!(web.deed(&id("b")), None);
}

#[test]
fn one_node_with_two_ports_is_two_servers() {
    let other = ServerSpec {
        port: 8081,
        ..spec("a", 1)
    };
    let mut web = Servers::new(
        "web",
        OnFail::Weight,
        (1, 1),
        &[spec("a", 1), other.clone()],
    );
    web.checked(&Id::from(&other), Err("no answer".into()));
    let dead: Vec<_> = web.dead().map(|(id, _)| id).collect();
    assert_eq!(dead, [Id::from(&other)]);
    assert_eq!(web.deed(&Id::from(&other)), Some(Deed::Weight(other, 0)));
}
