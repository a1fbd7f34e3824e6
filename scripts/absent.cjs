/** What stands in the bundle for a module that the service never uses. */
module.exports = {}
