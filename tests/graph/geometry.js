// What is wrong with the layout of a picture: one line each.
((svg) => {
  const wrong = [];
  const say = (what, ...who) => wrong.push(`${what}: ${who.join(" / ")}`);
  const edges = (e) => {
    const b = e.getBBox();
    return { l: b.x, r: b.x + b.width, t: b.y, b: b.y + b.height };
  };
  const meets = (a, b, by = 0) =>
    a.l < b.r - by && b.l < a.r - by && a.t < b.b - by && b.t < a.b - by;
  const inside = (a, b) => a.l >= b.l && a.r <= b.r && a.t >= b.t && a.b <= b.b;
  const paper = edges(svg.querySelector(".paper"));
  const boxes = [...svg.querySelectorAll(".machine")].map((g) => ({
    name: g.querySelector("title").textContent,
    at: edges(g.querySelector(".box")),
    texts: [...g.querySelectorAll("text")].map((t) => ({ text: t.textContent, at: edges(t) })),
  }));
  const wires = [...svg.querySelectorAll(".wire")].map(edges);
  // Points of the arrows' lines, two units apart.
  const arrows = [...svg.querySelectorAll(".hop .line")].map((line) => {
    const points = [];
    for (let at = 0; at <= line.getTotalLength(); at += 2) {
      const { x, y } = line.getPointAtLength(at);
      points.push({ l: x - 0.1, r: x + 0.1, t: y - 0.1, b: y + 0.1 });
    }
    return points;
  });
  const bands = [...svg.querySelectorAll("rect.band")].map(edges);
  for (const [n, box] of boxes.entries()) {
    if (!inside(box.at, paper)) say("outside the paper", box.name);
    for (const [m, t] of box.texts.entries()) {
      if (!inside(t.at, box.at)) say("text outside its box", box.name, t.text);
      // Line boxes may touch by a little; letters do not.
      for (const u of box.texts.slice(m + 1))
        if (meets(t.at, u.at, 2.5)) say("texts over one another", t.text, u.text);
    }
    for (const other of boxes.slice(n + 1))
      if (meets(box.at, other.at)) say("boxes over one another", box.name, other.name);
    for (const band of bands) if (meets(box.at, band)) say("box over a network", box.name);
    for (const wire of wires) if (meets(wire, box.at)) say("wire through a box", box.name);
    const within = { l: box.at.l + 1, r: box.at.r - 1, t: box.at.t + 1, b: box.at.b - 1 };
    for (const points of arrows)
      if (points.some((p) => meets(p, within))) say("arrow through a box", box.name);
  }
  const pills = [...svg.querySelectorAll(".pill")].map((p) => ({
    ...edges(p),
    text: p.parentNode.querySelector(".label").textContent,
  }));
  for (const [n, p] of pills.entries()) {
    // Arrows that meet carry the same label at the same place.
    const same = (q) => p.l === q.l && p.t === q.t && p.text === q.text;
    for (const q of pills.slice(n + 1))
      if (meets(p, q) && !same(q)) say("labels over one another", p.text, q.text);
    for (const box of boxes) if (meets(p, box.at)) say("label over a box", box.name);
  }
  for (const label of svg.querySelectorAll(".network")) {
    const at = edges(label);
    if (!bands.some((b) => inside(at, b))) say("network's name outside it", label.textContent);
    for (const points of arrows)
      if (points.some((p) => meets(p, at))) say("arrow through a network's name", label.textContent);
  }
  // WCAG 2.2, 1.4.3: text has a contrast of 4.5 to what is behind it.
  const rgb = (c) => c.match(/[\d.]+/g).slice(0, 3).map(Number);
  const light = (c) => {
    const [r, g, b] = rgb(c).map((v) => (v /= 255) <= 0.04045 ? v / 12.92 : ((v + 0.055) / 1.055) ** 2.4);
    return 0.2126 * r + 0.7152 * g + 0.0722 * b;
  };
  const fill = (e) => getComputedStyle(e).fill;
  const contrast = (a, b) => {
    const [x, y] = [light(a), light(b)].sort((p, q) => q - p);
    return (x + 0.05) / (y + 0.05);
  };
  for (const t of svg.querySelectorAll("text")) {
    const behind = t.parentNode.querySelector("rect") ?? svg.querySelector(".paper");
    const c = contrast(fill(t), fill(behind));
    if (c < 4.5) say("faint text", t.textContent, c.toFixed(2));
  }
  // 1.4.11: what carries meaning has 3.
  for (const e of svg.querySelectorAll(".hop .line, .wire")) {
    const c = contrast(getComputedStyle(e).stroke, fill(svg.querySelector(".paper")));
    if (c < 3) say("faint line", c.toFixed(2));
  }
  return wrong;
})
