//! Changes of a table that stays: in one batch, so that no packet sees half of them, and without
//! touching what the rules themselves have written into maps (live connections).

use super::socket;
use super::{Chain, Error, Family, Set, Table, encode};

/// One change of a table.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Change {
    /// A counter that begins at zero.
    NewCounter(String),
    /// A chain with its rules.
    NewChain(Chain),
    /// Other elements in the place of all that a set or map has.
    Elements(Set),
    /// Other rules in the place of all that a chain has.
    Rules(Chain),
    /// A chain goes, with its rules; nothing leads to it any more.
    DeleteChain(String),
    /// A counter goes; no rule counts into it any more.
    DeleteCounter(String),
}

/// What turns `old` into `new`, in an order that the kernel takes: what is led to comes before
/// what leads there and goes after it. So the chains that come and go have to stand in their tables
/// behind those that they lead to. Empty if there is nothing to do.
///
/// # Errors
/// They differ in more than counters, plain chains, rules and the elements of maps that rules do
/// not write to: what differs, as prose. Hooks and sets cannot be changed in place.
pub fn between(old: &Table, new: &Table) -> Result<Vec<Change>, String> {
    let mut changes = Vec::new();
    let fresh = |c: &&Chain| !old.chains.iter().any(|o| o.name == c.name);
    for counter in &new.counters {
        if !old.counters.contains(counter) {
            changes.push(Change::NewCounter(counter.clone()));
        }
    }
    for chain in new.chains.iter().filter(fresh) {
        if chain.hook.is_some() {
            return Err(format!("chain {} is new and has a hook", chain.name));
        }
        changes.push(Change::NewChain(chain.clone()));
    }
    if old.sets.len() != new.sets.len() {
        return Err("there are more or fewer sets".to_owned());
    }
    for (had, has) in old.sets.iter().zip(&new.sets) {
        let bare = |set: &Set| Set {
            elements: vec![],
            ..set.clone()
        };
        if bare(had) != bare(has) || (has.dynamic && had.elements != has.elements) {
            return Err(format!("set {} is another one", had.name));
        }
        if had.elements != has.elements {
            changes.push(Change::Elements(has.clone()));
        }
    }
    for chain in &new.chains {
        let Some(had) = old.chains.iter().find(|o| o.name == chain.name) else {
            continue;
        };
        if had.hook != chain.hook {
            return Err(format!("chain {} has another hook", chain.name));
        }
        if had.rules != chain.rules {
            changes.push(Change::Rules(chain.clone()));
        }
    }
    for chain in old.chains.iter().rev() {
        if !new.chains.iter().any(|n| n.name == chain.name) {
            changes.push(Change::DeleteChain(chain.name.clone()));
        }
    }
    for counter in &old.counters {
        if !new.counters.contains(counter) {
            changes.push(Change::DeleteCounter(counter.clone()));
        }
    }
    Ok(changes)
}

/// Changes a table in the network namespace of the calling thread: all of it or nothing.
pub fn change(family: Family, table: &str, changes: &[Change]) -> Result<(), Error> {
    let messages = encode::changes(family, table, changes, &socket::device_index)?;
    socket::run(&messages)
}

#[cfg(test)]
mod tests {
    use super::super::{Element, ElementData, Rule, Statement, Type, Value, Verdict};
    use super::*;

    fn table(servers: &[&str]) -> Table {
        let way = |s: &&str| format!("to_{s}");
        let elements = servers.iter().enumerate().map(|(n, s)| Element {
            key: vec![Value::Number(n as u32)],
            data: Some(ElementData::Verdict(Verdict::Goto(way(s)))),
        });
        Table {
            family: Family::Netdev,
            name: "t".into(),
            counters: servers.iter().map(way).collect(),
            sets: vec![Set {
                name: "servers".into(),
                key: vec![Type::Mark],
                data: Some(Type::Verdict),
                dynamic: false,
                timeout: None,
                size: None,
                elements: elements.collect(),
            }],
            chains: servers
                .iter()
                .map(|s| Chain {
                    name: way(s),
                    hook: None,
                    rules: vec![Rule::new([Statement::CountInto(way(s))])],
                })
                .collect(),
        }
    }

    #[test]
    fn what_is_led_to_comes_first_and_goes_last() {
        let (old, new) = (table(&["a", "b"]), table(&["a", "c"]));
        assert_eq!(
            between(&old, &new).unwrap(),
            [
                Change::NewCounter("to_c".into()),
                Change::NewChain(new.chains[1].clone()),
                Change::Elements(new.sets[0].clone()),
                Change::DeleteChain("to_b".into()),
                Change::DeleteCounter("to_b".into()),
            ]
        );
        assert_eq!(between(&old, &old).unwrap(), []);
        let mut other = old.clone();
        other.chains[0].rules.clear();
        assert_eq!(
            between(&old, &other).unwrap(),
            [Change::Rules(other.chains[0].clone())]
        );
    }

    #[test]
    fn what_cannot_be_changed_in_place_is_said() {
        let old = table(&["a"]);
        let mut other = old.clone();
        other.sets[0].key = vec![Type::Port];
        assert_eq!(
            between(&old, &other).unwrap_err(),
            "set servers is another one"
        );
        other.sets.clear();
        assert_eq!(
            between(&old, &other).unwrap_err(),
            "there are more or fewer sets"
        );
    }
}
