// What a reader would trip over on a page, as a list of sentences; empty = nothing.
() => {
  const faults = [];
  const page = document.documentElement;
  if (page.scrollWidth > window.innerWidth) faults.push(`the page is ${page.scrollWidth} px wide, the window ${window.innerWidth}`);
  const name = (node) => `<${node.tagName.toLowerCase()} class="${node.getAttribute("class") || ""}"> "${(node.textContent || "").trim().slice(0, 40)}"`;
  const visible = (node) => node.checkVisibility() && node.getClientRects().length > 0;
  for (const node of document.querySelectorAll("body *")) {
    if (!visible(node) || node.closest("svg")) continue;
    const style = getComputedStyle(node);
    const clipped = style.overflowX !== "visible" && node.scrollWidth > node.clientWidth + 1 && style.overflowX !== "auto" && style.overflowX !== "scroll";
    if (clipped) faults.push(`text is cut in ${name(node)}`);
    const box = node.getBoundingClientRect();
    const inside = node.closest(".scrolls");
    if (!inside && box.width > 0 && box.right > window.innerWidth + 1) faults.push(`${name(node)} reaches beyond the window`);
  }
  const apart = (a, b) => a.right <= b.left + 1 || b.right <= a.left + 1 || a.bottom <= b.top + 1 || b.bottom <= a.top + 1;
  for (const svg of document.querySelectorAll("svg")) {
    if (!visible(svg)) continue;
    const frame = svg.getBoundingClientRect();
    const texts = [...svg.querySelectorAll("text")].map((node) => [node, node.getBoundingClientRect()]);
    for (const [node, box] of texts)
      if (box.left < frame.left - 1 || box.right > frame.right + 1) faults.push(`axis text is cut: ${name(node)} of ${svg.getAttribute("aria-label")}`);
    for (let i = 0; i < texts.length; i++)
      for (let j = i + 1; j < texts.length; j++)
        if (!apart(texts[i][1], texts[j][1])) faults.push(`axis texts overlap: ${name(texts[i][0])} and ${name(texts[j][0])} of ${svg.getAttribute("aria-label")}`);
    const drawn = [...svg.querySelectorAll(".line, .area, .dot")].map((node) => node.getBoundingClientRect());
    if (!drawn.some((box) => box.width + box.height > 1)) faults.push(`the plot ${svg.getAttribute("aria-label")} is empty`);
  }
  const cards = [...document.querySelectorAll(".card, .fact, details, h1, h2")].filter(visible);
  for (const card of cards)
    for (const other of cards)
      if (card !== other && !card.contains(other) && !other.contains(card) && !apart(card.getBoundingClientRect(), other.getBoundingClientRect()))
        faults.push(`${name(card)} overlaps ${name(other)}`);
  return faults;
}
