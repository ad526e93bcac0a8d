// A name for the search, and focus for what scrolls, so that both can be used by keyboard.
document.querySelector(".md-search")?.setAttribute("aria-label", "search");
const focus = () => {
  for (const part of document.querySelectorAll(".md-typeset__scrollwrap, .md-typeset code"))
    if (part.scrollWidth > part.clientWidth) part.tabIndex = 0;
};
addEventListener("load", () => setTimeout(focus));
addEventListener("resize", focus);
