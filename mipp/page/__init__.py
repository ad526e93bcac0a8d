"""What a page says (`document`), and how it is written as one HTML file that needs nothing else."""

from mipp.page.html_page import html_fragment, html_page

__all__ = ["html_fragment", "html_page"]
