
"use strict";
// One connection at a time, chosen from a list; its paths stand out in the topology.
for (const choose of document.querySelectorAll(".chooser select")) {
  const service = choose.dataset.service;
  const flows = [...document.querySelectorAll(".flow")].filter((f) => f.dataset.service === service);
  const topology = document.querySelector(`svg[aria-labelledby^="topology-${service}-"]`);
  const figure = topology && topology.closest("section");
  const all = figure && figure.querySelector(".all-paths");
  const paths = topology ? [...topology.querySelectorAll(".hop[data-flows]")] : [];
  const show = () => {
    for (const flow of flows) {
      flow.hidden = flow.id !== choose.value;
      if (!flow.hidden) flow.open = true;
    }
  };
  const fade = (number) => {
    for (const path of paths)
      path.classList.toggle("faded", number !== null && !path.dataset.flows.split(" ").includes(number));
    if (all) all.hidden = number === null;
  };
  const chosen = () => flows.find((f) => f.id === choose.value).dataset.flow;
  choose.addEventListener("change", () => {
    show();
    fade(chosen());
    history.replaceState(null, "", `#${choose.value}`);
  });
  if (all) all.addEventListener("click", () => fade(null));
  const linked = () => {
    const id = location.hash.slice(1);
    if (!flows.some((f) => f.id === id)) return;
    choose.value = id;
    show();
    fade(chosen());
    document.getElementById(id).scrollIntoView();
  };
  choose.closest(".chooser").hidden = false;
  show();
  linked();
  addEventListener("hashchange", linked);
}
