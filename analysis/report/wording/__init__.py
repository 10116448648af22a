"""Every sentence, label, caption, heading and table header of page, figures and terminal: a short
function per fact of the findings."""
