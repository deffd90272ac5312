// Makes an event, with the button's number, of a click on one of the buttons inside of `element`.
element.addEventListener("click", event => {
  const button = event.target.closest("[data-index]");
  if (!button) return;
  for (const other of element.querySelectorAll("[data-index]"))
    other.setAttribute("aria-pressed", String(other === button));
  trigger("select", { index: Number(button.dataset.index) });
});
