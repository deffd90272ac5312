// Moves the cursor over the heat maps of a caption that plays, and lights its boxes.
for (const card of document.querySelectorAll(".card.speech")) {
  const clip = card.querySelector("audio");
  const figures = [...card.querySelectorAll(".heat")].map(figure => ({
    hop: Number(figure.dataset.hop),
    shares: JSON.parse(figure.dataset.shares),
    map: figure.querySelector(".map"),
    cursor: figure.querySelector(".cursor"),
    boxes: figure.querySelectorAll(".box"),
  }));
  if (!clip || !figures.length) continue;

  const show = () => {
    for (const { hop, shares, cursor, boxes } of figures) {
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
  const follow = () => {
    show();
    if (!clip.paused && !clip.ended) requestAnimationFrame(follow);
  };
  clip.addEventListener("play", follow);
  for (const event of ["seeked", "timeupdate", "ended"]) clip.addEventListener(event, show);
  for (const { hop, shares, map } of figures)
    map.addEventListener("click", event => {
      const frame = map.getBoundingClientRect();
      clip.currentTime = (event.clientX - frame.left) / frame.width * shares[0].length * hop;
    });
}
