"""Message templates: Liquid and MJML, compiled when applied, rendered when sent."""
