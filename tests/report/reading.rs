//! Whether everybody can read a report: on a phone, on paper, without JavaScript, by ear.

use serde_json::json;

use super::common::browser::{Browser, npm};
use super::{browser, ran};

#[test]
fn without_javascript_all_connections_can_be_reached() {
    let mut browser = Browser::start();
    browser.call(
        "Emulation.setScriptExecutionDisabled",
        &json!({ "value": true }),
    );
    browser.open_file(&ran().report());
    let state = browser.eval(
        "(() => ({
            flows: [...document.querySelectorAll('.flow')].map((f) => [f.checkVisibility(), f.open]),
            chooser: document.querySelector('.chooser').checkVisibility(),
        }))()",
    );
    assert_eq!(
        state,
        json!({ "flows": [[true, true], [true, false], [true, false]], "chooser": false })
    );
}

#[test]
fn it_fits_a_phone_a_screen_and_paper() {
    let mut browser = browser();
    for (width, mobile) in [(360, true), (320, true), (768, false), (1600, false)] {
        browser.window(width, 740, mobile);
        browser.open_file(&ran().report());
        let wide = browser.eval(
            "(() => ({
                page: document.documentElement.scrollWidth,
                // What is wider scrolls by itself.
                over: [...document.querySelectorAll('body *')].filter((e) =>
                    !e.closest('.scroll, .skip, svg') && e.checkVisibility() &&
                    e.getBoundingClientRect().right > innerWidth + 0.5).map((e) => e.tagName),
                letters: Math.min(...[...document.querySelectorAll('#path svg.picture:not(.key) text')]
                    .map((t) => t.getBoundingClientRect().height)),
            }))()",
        );
        assert_eq!(wide["page"], width, "the page scrolls sideways");
        assert_eq!(wide["over"], json!([]), "at {width}");
        assert!(
            wide["letters"].as_f64().unwrap() >= 10.0,
            "{wide} at {width}"
        );
    }
    browser.window(760, 1000, false);
    browser.medium("print", "dark");
    browser.open_file(&ran().report());
    let printed = browser.eval(
        "(() => ({
            background: getComputedStyle(document.body).backgroundColor,
            navigation: document.querySelector('nav').checkVisibility(),
            page: document.documentElement.scrollWidth,
            cut: [...document.querySelectorAll('.scroll')].filter((s) =>
                s.checkVisibility() && s.scrollWidth > s.clientWidth + 1).length,
        }))()",
    );
    assert_eq!(
        printed,
        json!({ "background": "rgb(255, 255, 255)", "navigation": false, "page": 760, "cut": 0 })
    );
}

/// axe-core knows WCAG's rules; it runs in each look of the page.
#[test]
fn everybody_can_read_it() {
    let axe = std::fs::read_to_string(npm("axe.min.js")).unwrap();
    let mut browser = browser();
    for (scheme, width) in [("light", 1000), ("dark", 1000), ("light", 360)] {
        browser.medium("screen", scheme);
        browser.window(width, 900, width < 500);
        browser.open_file(&ran().report());
        // All of it, also what is folded away.
        browser.eval("for (const d of document.querySelectorAll('details')) { d.hidden = false; d.open = true; }");
        browser.eval(&format!("{axe}; 0"));
        let found = browser.eval(
            "axe.run(document, { resultTypes: ['violations', 'incomplete'] }).then((r) => ({
                violations: r.violations.map((v) => [v.id, v.nodes.map((n) => n.html.slice(0, 200))]),
                contrast: r.incomplete.filter((v) => v.id === 'color-contrast')
                    .flatMap((v) => v.nodes.map((n) => n.target[0]))
                    // Letters in pictures are judged below; a sign alone is no text.
                    .filter((t) => !document.querySelector(t).closest('svg, [aria-hidden]')),
                rules: r.passes.length,
            }))",
        );
        assert_eq!(found["violations"], json!([]), "{scheme} at {width}");
        // On a phone cells are scrolled out of sight, where axe-core cannot judge them.
        if width >= 1000 {
            assert_eq!(found["contrast"], json!([]), "{scheme} at {width}");
        }
        assert!(found["rules"].as_u64().unwrap() > 20, "{found}");
        let judge = include_str!("../graph/geometry.js");
        let wrong = browser.eval(&format!(
            "[...document.querySelectorAll('svg.picture:not(.key)')]
                .flatMap({judge})"
        ));
        assert_eq!(wrong, json!([]), "{scheme}");
    }
    // What a screen reader is told, by the browser's own reckoning.
    let tree = browser.call("Accessibility.getFullAXTree", &json!({}));
    let said: Vec<(String, String)> = tree["nodes"]
        .as_array()
        .unwrap()
        .iter()
        .filter(|n| n["ignored"] == false)
        .map(|n| {
            let value = |key: &str| n[key]["value"].as_str().unwrap_or_default().to_owned();
            (value("role"), value("name"))
        })
        .collect();
    let named = |role: &str| -> Vec<&str> {
        said.iter()
            .filter(|(r, _)| r == role)
            .map(|(_, n)| n.as_str())
            .collect()
    };
    assert_eq!(named("navigation"), ["Sections"]);
    assert_eq!(named("main").len(), 1);
    for (role, name) in [
        ("region", "Path of request and answer"),
        ("region", "Frames at each interface"),
        ("region", "Verdicts"),
        ("region", "Servers' shares"),
        ("region", "Connections"),
        ("table", "Connections by realserver; 3 in all"),
        ("columnheader", "From VIP"),
        ("rowheader", "lb:eth1"),
        ("combobox", "Show connection"),
    ] {
        assert!(
            named(role).contains(&name),
            "{role} {name}: {:?}",
            named(role)
        );
    }
    let images: Vec<_> = [named("image"), named("img")].concat();
    assert!(
        images.contains(&"Topology with the paths of requests and answers"),
        "{images:?}"
    );
    let headings = browser
        .eval("[...document.querySelectorAll('h1, h2, h3, h4')].map((h) => Number(h.tagName[1]))");
    let levels: Vec<_> = headings
        .as_array()
        .unwrap()
        .iter()
        .map(|l| l.as_u64().unwrap())
        .collect();
    assert_eq!(levels.iter().filter(|l| **l == 1).count(), 1);
    assert!(levels.windows(2).all(|w| w[1] <= w[0] + 1), "{levels:?}");
}
