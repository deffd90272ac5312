// Moves the cursor over the heat maps of a clip that plays, and lights their boxes. A clip and its maps share
// a card; cards may be added after the page was loaded.
{
  const known = new WeakMap();
  const read = figure => {
    if (!known.has(figure)) known.set(figure, {
      hop: Number(figure.dataset.hop),
      shares: JSON.parse(figure.dataset.shares),
      cursor: figure.querySelector(".cursor"),
      boxes: figure.querySelectorAll(".box"),
    });
    return known.get(figure);
  };
  const figures = clip => [...clip.closest(".card")?.querySelectorAll(".heat") ?? []];

  const show = clip => {
    for (const { hop, shares, cursor, boxes } of figures(clip).map(read)) {
      const last = shares[0].length - 1, place = clip.currentTime / hop;
      cursor.style.left = `${Math.min(100, 100 * place / (last + 1))}%`;
      cursor.classList.add("on");
      // between the middles of two moments
      const inside = Math.min(last, Math.max(0, place - 0.5)), from = Math.floor(inside);
      const to = Math.min(last, from + 1), weight = inside - from;
      boxes.forEach((box, row) => {
        const heat = (1 - weight) * shares[row][from] + weight * shares[row][to];
        box.style.setProperty("--heat", Math.max(0, heat).toFixed(3));
      });
    }
  };
  const follow = clip => {
    show(clip);
    if (!clip.paused && !clip.ended && clip.isConnected) requestAnimationFrame(() => follow(clip));
  };

  const actions = { play: follow, seeked: show, timeupdate: show, ended: show };
  for (const [name, action] of Object.entries(actions))  // these do not bubble
    document.addEventListener(name, event => action(event.target), true);
  document.addEventListener("click", event => {
    const map = event.target.closest?.(".heat .map"), clip = map?.closest(".card")?.querySelector("audio");
    if (!clip) return;
    const { hop, shares } = read(map.closest(".heat")), frame = map.getBoundingClientRect();
    clip.currentTime = (event.clientX - frame.left) / frame.width * shares[0].length * hop;
  });
}
