"""The product studio: renders pictures of invented products, whose class, variety, scene and light are known exactly.

`varieties` says what a variety is; `produce`, `meat` and `packaged` build its pieces; `scenes` arranges a picture;
`render` hands it to Mitsuba; `captions` describes it. The studio knows nothing of models or training.
"""
